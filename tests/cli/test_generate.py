"""`max-gpt2 generate` and `max-gpt2 beams` with one prompt."""

import json
from pathlib import Path
from typing import Any

import pytest

from max_gpt2.checkpoint import inspect_checkpoint, read_tokenizer
from max_gpt2.errors import RequestError
from max_gpt2.generation import Request, SamplingParams
from max_gpt2.model import CompiledModel
from tests.support.cli import Cli, refused


def test_generation_is_reproducible_from_seed_and_prompt_ids(
    cli: Cli, tiny_original: Path, tiny_model: CompiledModel
) -> None:
    del tiny_model  # compiled once for all tests
    options = ("--model", tiny_original, "--max-new-tokens", 6, "--seed", 5, "--top-k", 40)
    outcome = cli("generate", "The dog", *options, "--json")
    result = json.loads(outcome.out)
    assert outcome.code == 0
    assert result["finish_reason"] in ("length", "stop")
    assert result["seed"] == 5
    assert result["model"] == str(tiny_original)
    assert result["timing"].keys() == {"load_s", "compile_s", "prefill_s", "decode_s", "decode_tokens_per_s"}
    assert result == json.loads(cli("generate", "The dog", *options, "--json").out) | {"timing": result["timing"]}
    by_ids = ",".join(map(str, result["prompt_tokens"]))
    assert json.loads(cli("generate", "--prompt-ids", by_ids, *options, "--json").out)["tokens"] == result["tokens"]
    shown = cli("generate", "The dog", *options)
    assert shown.out == f"The dog{result['text']}\n"
    assert "seed 5" in shown.err


def test_options_become_the_request(cli: Cli, tiny_original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Request] = []

    def remember(_config: object, _tokenizer: object, request: Request) -> None:
        seen.append(request)
        raise RequestError("enough")

    monkeypatch.setattr("max_gpt2.generation.check_request", remember)
    numbers: dict[str, Any] = {
        "temperature": 0.5,
        "top_k": 4,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.5,
        "presence_penalty": 0.25,
        "frequency_penalty": -0.5,
        "no_repeat_ngram_size": 3,
        "min_new_tokens": 2,
        "seed": 7,
    }
    options = [part for name, value in numbers.items() for part in (f"--{name.replace('_', '-')}", value)]
    rest = ["--stop", "a", "--stop", "b c", "--logprobs", 3, "--max-new-tokens", 9, "--prompt-ids", "1,2", "--json"]
    rest += ["--logit-bias", "4=-1.5", "--logit-bias", "7=2", "--bad-words", "fox", "--context-overflow", "shift"]
    assert "enough" in refused(cli("generate", "--model", tiny_original, *options, *rest))
    encode = read_tokenizer(inspect_checkpoint(tiny_original)[2], None).encode
    sampling = SamplingParams(**numbers, logit_bias={4: -1.5, 7: 2.0}, bad_words=[encode("fox"), encode(" fox")])
    assert seen == [Request([1, 2], 9, sampling, ["a", "b c"], logprobs=3, context_overflow="shift")]


def test_n_samples_use_consecutive_seeds(cli: Cli, tiny_original: Path, tiny_model: CompiledModel) -> None:
    del tiny_model
    options = ("The dog", "--model", tiny_original, "--max-new-tokens", 6, "--temperature", 1.5)
    result = json.loads(cli("generate", *options, "--n", 3, "--seed", 5, "--json").out)
    assert result.keys() == {"model", "sequences", "timing"}
    assert [one["seed"] for one in result["sequences"]] == [5, 6, 7]
    assert result["sequences"][1]["text"] == json.loads(cli("generate", *options, "--seed", 6, "--json").out)["text"]
    shown = cli("generate", *options, "--n", 3, "--seed", 5, "--batch-size", 2)
    texts = [
        f"--- {n} of 3, seed {one['seed']}\nThe dog{one['text']}\n" for n, one in enumerate(result["sequences"], 1)
    ]
    assert shown.out == "".join(texts)
    assert "tokens/s" in shown.err


def test_context_overflow_shift_generates_beyond_the_context(
    cli: Cli, tiny_original: Path, tiny_model: CompiledModel
) -> None:
    del tiny_model
    options = ("The dog", "--model", tiny_original, "--max-new-tokens", 80, "--min-new-tokens", 80, "--json")
    stopped = json.loads(cli("generate", *options).out)
    assert len(stopped["prompt_tokens"]) + len(stopped["tokens"]) == 68
    assert len(json.loads(cli("generate", *options, "--context-overflow", "shift").out)["tokens"]) == 80


def test_beams_rank_by_length_normalised_logprob(cli: Cli, tiny_original: Path, tiny_model: CompiledModel) -> None:
    del tiny_model
    options = (
        "The dog",
        "--model",
        tiny_original,
        "--max-new-tokens",
        4,
        "--num-beams",
        3,
        "--no-repeat-ngram-size",
        1,
    )
    result = json.loads(cli("beams", *options, "--length-penalty", 2, "--early-stopping", "--json").out)
    assert result.keys() == {"model", "prompt_tokens", "sequences"}
    assert len(result["sequences"]) == 3
    assert all(len(set(one["tokens"])) == len(one["tokens"]) for one in result["sequences"])
    ended = result["sequences"][0]["finish_reason"] == "stop"
    length = len(result["sequences"][0]["tokens"]) + ended
    assert result["sequences"][0]["score"] == pytest.approx(result["sequences"][0]["logprob"] / length**2)
    shown = cli("beams", *options)
    assert shown.code == 0
    assert "log probability" in shown.out
    assert "num_beams 0" in refused(cli("beams", "a", "--model", tiny_original, "--num-beams", 0))
    assert "max_new_tokens 0" in refused(cli("beams", "a", "--model", tiny_original, "--max-new-tokens", 0))


@pytest.mark.slow  # compiles a graph of MAX's own matmul kernels
def test_builtin_kernels_generate_the_same_text(cli: Cli, tiny_original: Path, builtin_model: CompiledModel) -> None:
    del builtin_model
    options = ("The dog", "--model", tiny_original, "--json")
    greedy = ("--max-new-tokens", 20, "--temperature", 0)
    ours, builtin = (
        json.loads(cli("generate", *options, *greedy, "--kernels", which).out) for which in ("mojo", "builtin")
    )
    assert ours["text"] == builtin["text"]
    scores = [json.loads(cli("score", *options, "--kernels", which).out) for which in ("mojo", "builtin")]
    assert scores[0]["logprob"] == pytest.approx(scores[1]["logprob"], rel=1e-5)
    logprobs = [[unit["logprob"] for unit in one["units"]] for one in scores]
    assert logprobs[0] != logprobs[1]  # the rounding shows that different kernels ran


def test_stop_string_is_cut_off_and_logprobs_are_reported(
    cli: Cli, tiny_original: Path, tiny_model: CompiledModel
) -> None:
    del tiny_model
    options = ("The dog", "--model", tiny_original, "--temperature", 0, "--max-new-tokens", 9)
    whole = json.loads(cli("generate", *options, "--json").out)
    assert whole["logprobs"] == []
    stop = whole["text"][3:5]
    result = json.loads(cli("generate", *options, "--json", "--stop", stop, "--logprobs", 2).out)
    assert result["text"] == whole["text"][: whole["text"].index(stop)]
    assert result["finish_reason"] == "stop"
    assert [one["token"] for one in result["logprobs"]] == result["tokens"]
    assert max(result["logprobs"][0]["top"].values()) == result["logprobs"][0]["logprob"] < 0
    assert cli("generate", *options, "--stop", stop).out == f"The dog{result['text']}\n"


def test_empty_prompt_starts_from_end_of_text_with_a_notice(cli: Cli, tiny_original: Path) -> None:
    for arguments in ([], [""]):
        outcome = cli("generate", *arguments, "--model", tiny_original, "--max-new-tokens", 2, "--json")
        assert json.loads(outcome.out)["prompt_tokens"] == [299]
        assert "The prompt is empty; generation starts from <|endoftext|>." in outcome.err


@pytest.mark.parametrize("command", ["generate", "beams"])
def test_empty_prompt_starts_from_bos_token_id(cli: Cli, tiny: Path, command: str) -> None:
    (tiny / "generation_config.json").write_text('{"bos_token_id": 42, "eos_token_id": 299}')
    outcome = cli(command, "", "--model", tiny, "--max-new-tokens", 2, "--json", "--stop-ids", "298")
    assert json.loads(outcome.out)["prompt_tokens"] == [42]
    assert "The prompt is empty; generation starts from K." in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-new-tokens", "-1"], "max_new_tokens -1 is negative"),
        (["--max-new-tokens", "many"], "--max-new-tokens"),
        (["--prompt-ids", ",".join(["5"] * 68)], "68 tokens exceed the model's context of 67"),
        (["--n", 0], "n 0 is not a positive integer"),
        (["--n", 2, "--batch-size", 0, "a"], "batch size 0 is not a positive integer"),
        (["--logit-bias", "5:1"], "--logit-bias '5:1' is not ID=NUMBER"),
        (["--logit-bias", "305=1"], "the id 305, which is not in 0 .. 299"),
        (["--logit-bias", "5=inf"], "logit_bias"),
        (["--bad-words", ""], "--bad-words is empty"),
        (["--context-overflow", "wrap"], "--context-overflow"),
        (["--kernels", "cuda"], "--kernels"),
        (["--temperature", "-0.5"], "temperature -0.5"),
        (["--temperature", "nan"], "temperature nan"),
        (["--top-k", "-1"], "top_k -1"),
        (["--seed", "-1"], "seed -1"),
        (["--prompt-ids", "1,two"], "--prompt-ids '1,two' is not a list of ids"),
        (["--stop-ids", "1,311"], "The stop id 311 is not in 0 .. 310"),
        (["--stop-ids", "1,x"], "--stop-ids '1,x' is not a list of ids"),
        (["--prompt-ids", "1,311"], "The prompt id 311 is not in 0 .. 310"),
        (["--prompt-ids", ""], "The prompt has no tokens"),
        (["--prompt-ids", "1", "and a text"], "Give only one of them"),
        (["--logprobs", 3], "--logprobs is only reported as JSON. Add --json."),
        (["--top-p", 0], "top_p 0.0 is not above 0"),
        (["--stop", ""], "stop string is empty"),
        (["--frobnicate"], "No such option: --frobnicate"),
        (["one", "two"], "unexpected extra argument"),
    ],
)
def test_bad_option_is_one_error(cli: Cli, tiny_original: Path, arguments: list[str], message: str) -> None:
    assert message in refused(cli("generate", "--model", tiny_original, *arguments))
