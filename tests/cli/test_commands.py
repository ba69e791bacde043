import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.checkpoints import edit_config, edit_weights
from max_gpt2.checkpoint import inspect_checkpoint, read_tokenizer
from max_gpt2.errors import RequestError
from max_gpt2.generation import Request, SamplingParams
from max_gpt2.model import CompiledModel
from tests.support.cli import Cli, Outcome

ROOT = Path(__file__).parents[2]


def test_info(cli: Cli, tiny_original: Path) -> None:
    outcome = cli("info", "--model", tiny_original, "--json")
    facts = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert facts["config"]["n_inner"] == 96
    assert facts["parameters"] == 30792
    assert facts["tied"] is True
    assert facts["transposed"] == []
    shown = cli("info", "--model", tiny_original)
    assert shown.code == 0
    assert all(text in shown.out for text in ("30,792", "transposed", "none", "tied"))


def test_info_says_which_flag_has_no_effect(cli: Cli, tiny: Path) -> None:
    assert json.loads(cli("info", "--model", tiny, "--json").out)["no_effect"] == []
    assert "no effect" not in cli("info", "--model", tiny).out
    edit_config(tiny, reorder_and_upcast_attn=True)
    assert json.loads(cli("info", "--model", tiny, "--json").out)["no_effect"] == ["reorder_and_upcast_attn"]
    assert "reorder_and_upcast_attn has no effect" in " ".join(cli("info", "--model", tiny).out.split())


def test_info_reads_no_weights(cli: Cli, tiny: Path) -> None:
    edit_weights(tiny, lambda tensors: tensors.update({"transformer.ln_f.bias": np.full(24, np.nan, np.float32)}))
    assert cli("info", "--model", tiny).code == 0


def test_generate(cli: Cli, tiny_original: Path, tiny_model: CompiledModel) -> None:
    del tiny_model  # compiled once for all tests
    options = ("--model", tiny_original, "--max-new-tokens", 6, "--seed", 5, "--top-k", 40)
    outcome = cli("generate", "The dog", *options, "--json")
    facts = json.loads(outcome.out)
    assert outcome.code == 0
    assert facts["finish_reason"] in ("length", "stop")
    assert facts["seed"] == 5
    assert facts["model"] == str(tiny_original)
    assert facts["timing"].keys() == {"load_s", "compile_s", "prefill_s", "decode_s", "decode_tokens_per_s"}
    assert facts == json.loads(cli("generate", "The dog", *options, "--json").out) | {"timing": facts["timing"]}
    by_ids = ",".join(map(str, facts["prompt_tokens"]))
    assert json.loads(cli("generate", "--prompt-ids", by_ids, *options, "--json").out)["tokens"] == facts["tokens"]
    shown = cli("generate", "The dog", *options)
    assert shown.out == f"The dog{facts['text']}\n"
    assert "seed 5" in shown.err


def test_every_option_of_generate_arrives(cli: Cli, tiny_original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    rest += ["--logit-bias", "4=-1.5", "--logit-bias", "7=2", "--bad-words", "fox", "--context-overflow", "slide"]
    assert "enough" in refused(cli("generate", "--model", tiny_original, *options, *rest))
    encode = read_tokenizer(inspect_checkpoint(tiny_original)[2], None).encode
    sampling = SamplingParams(**numbers, logit_bias={4: -1.5, 7: 2.0}, bad_words=[encode("fox"), encode(" fox")])
    assert seen == [Request([1, 2], 9, sampling, ["a", "b c"], logprobs=3, context_overflow="slide")]


def test_samples(cli: Cli, tiny_original: Path, tiny_model: CompiledModel) -> None:
    del tiny_model
    options = ("The dog", "--model", tiny_original, "--max-new-tokens", 6, "--temperature", 1.5)
    facts = json.loads(cli("generate", *options, "--n", 3, "--seed", 5, "--json").out)
    assert facts.keys() == {"model", "sequences", "timing"}
    assert [one["seed"] for one in facts["sequences"]] == [5, 6, 7]
    assert facts["sequences"][1]["text"] == json.loads(cli("generate", *options, "--seed", 6, "--json").out)["text"]
    shown = cli("generate", *options, "--n", 3, "--seed", 5, "--batch-size", 2)
    texts = [f"--- {n} of 3, seed {one['seed']}\nThe dog{one['text']}\n" for n, one in enumerate(facts["sequences"], 1)]
    assert shown.out == "".join(texts)
    assert "tokens/s" in shown.err


def test_the_context_slides_when_asked_to(cli: Cli, tiny_original: Path, tiny_model: CompiledModel) -> None:
    del tiny_model
    options = ("The dog", "--model", tiny_original, "--max-new-tokens", 80, "--min-new-tokens", 80, "--json")
    stopped = json.loads(cli("generate", *options).out)
    assert len(stopped["prompt_tokens"]) + len(stopped["tokens"]) == 68
    assert len(json.loads(cli("generate", *options, "--context-overflow", "slide").out)["tokens"]) == 80


def test_beams(cli: Cli, tiny_original: Path, tiny_model: CompiledModel) -> None:
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
    facts = json.loads(cli("beams", *options, "--length-penalty", 2, "--early-stopping", "--json").out)
    assert facts.keys() == {"model", "prompt_tokens", "sequences"}
    assert len(facts["sequences"]) == 3
    assert all(len(set(one["tokens"])) == len(one["tokens"]) for one in facts["sequences"])
    ended = facts["sequences"][0]["finish_reason"] == "stop"
    length = len(facts["sequences"][0]["tokens"]) + ended
    assert facts["sequences"][0]["score"] == pytest.approx(facts["sequences"][0]["logprob"] / length**2)
    shown = cli("beams", *options)
    assert shown.code == 0
    assert "log probability" in shown.out
    assert "num_beams 0" in refused(cli("beams", "a", "--model", tiny_original, "--num-beams", 0))
    assert "max_new_tokens 0" in refused(cli("beams", "a", "--model", tiny_original, "--max-new-tokens", 0))


@pytest.mark.slow  # compiles a graph of MAX's own matmul kernels
def test_builtin_kernels(cli: Cli, tiny_original: Path, builtin_model: CompiledModel) -> None:
    del builtin_model
    options = ("The dog", "--model", tiny_original, "--json")
    greedy = ("--max-new-tokens", 20, "--temperature", 0)
    ours, builtin = (
        json.loads(cli("generate", *options, *greedy, "--kernels", which).out) for which in ("mojo", "builtin")
    )
    assert ours["text"] == builtin["text"]
    scores = [json.loads(cli("score", *options, "--kernels", which).out) for which in ("mojo", "builtin")]
    assert scores[0]["logprob"] == pytest.approx(scores[1]["logprob"], rel=1e-5)
    assert scores[0]["logprobs"] != scores[1]["logprobs"]  # the last bits show that these are other kernels


def test_generate_stops_and_reports_logprobs(cli: Cli, tiny_original: Path, tiny_model: CompiledModel) -> None:
    del tiny_model
    options = ("The dog", "--model", tiny_original, "--temperature", 0, "--max-new-tokens", 9)
    whole = json.loads(cli("generate", *options, "--json").out)
    assert whole["logprobs"] == []
    stop = whole["text"][3:5]
    facts = json.loads(cli("generate", *options, "--json", "--stop", stop, "--logprobs", 2).out)
    assert facts["text"] == whole["text"][: whole["text"].index(stop)]
    assert facts["finish_reason"] == "stop"
    assert [one["token"] for one in facts["logprobs"]] == facts["tokens"]
    assert max(facts["logprobs"][0]["top"].values()) == facts["logprobs"][0]["logprob"] < 0
    assert cli("generate", *options, "--stop", stop).out == f"The dog{facts['text']}\n"


def test_score(cli: Cli, tiny_original: Path, tiny_model: CompiledModel) -> None:
    del tiny_model
    facts = json.loads(cli("score", "The dog, being lazy", "--model", tiny_original, "--json").out)
    assert facts["logprobs"][0] is None
    assert sum(facts["logprobs"][1:]) == pytest.approx(facts["logprob"])
    assert np.log(facts["perplexity"]) == pytest.approx(-facts["logprob"] / (len(facts["tokens"]) - 1))
    shown = cli("score", "--prompt-ids", ",".join(map(str, facts["tokens"])), "--model", tiny_original)
    assert shown.code == 0
    assert f"log probability {facts['logprob']:.4f}, perplexity {facts['perplexity']:.4f}" in shown.out
    assert "only 1 tokens" in refused(cli("score", "--model", tiny_original))


def test_an_empty_prompt_starts_from_nothing_and_says_so(cli: Cli, tiny_original: Path) -> None:
    for arguments in ([], [""]):
        outcome = cli("generate", *arguments, "--model", tiny_original, "--max-new-tokens", 2, "--json")
        assert json.loads(outcome.out)["prompt_tokens"] == [299]
        assert "The prompt is empty; generation starts from <|endoftext|>." in outcome.err


def test_verify(cli: Cli, tiny_original: Path) -> None:
    outcome = cli("verify", "--model", tiny_original, "--json")
    assert outcome.code == 0
    facts = json.loads(outcome.out)
    assert facts.keys() >= {"passed", "max_abs_diff", "max_rel_diff", "argmax_agreement", "greedy_match", "prompts"}
    shown = cli("verify", "--model", tiny_original)
    assert "MAX and PyTorch are equal: their logits differ by at most" in shown.out
    assert "max_abs_diff < 1e-04" in shown.out


def test_verify_exits_with_1_when_they_are_not_equal(
    cli: Cli, tiny_original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from max_gpt2.verify import compare

    monkeypatch.setattr(sys.modules[compare.__module__], "ABSOLUTE", 0.0)
    monkeypatch.setattr(sys.modules[compare.__module__], "RELATIVE", 0.0)
    outcome = cli("verify", "--model", tiny_original)
    assert outcome.code == 1
    assert "MAX and PyTorch are NOT equal" in outcome.out


def test_verify_against_another_checkpoint_shows_where_they_part(
    cli: Cli, tiny: Path, tiny_original: Path, tmp_path: Path
) -> None:
    bias, page = "transformer.h.2.attn.c_proj.bias", tmp_path / "out.html"
    edit_weights(tiny, lambda tensors: np.add.at(tensors[bias], 3, 0.5))
    outcome = cli("verify", "--model", tiny, "--against", tiny_original, "--report", page)
    assert outcome.code == 1
    assert "First divergence: h.2.attn, by 5.0e-01 (relative" in outcome.out
    assert re.search(r"h\.2 +│ 0\.0e\+00 │ 5\.0e-01\* │", outcome.out)
    assert re.search(r"h\.1 +│( +0\.0e\+00 │){6}", outcome.out)
    assert '<strong class="bad">h.2.attn</strong>' in page.read_text()


def test_a_difference_that_the_logits_do_not_show(cli: Cli, tiny: Path, tiny_original: Path) -> None:
    """The LayerNorms take away what is the same in all channels."""
    bias = "transformer.h.2.attn.c_proj.bias"
    edit_weights(tiny, lambda tensors: tensors.update({bias: tensors[bias] + np.float32(0.5)}))
    outcome = cli("verify", "--model", tiny, "--against", tiny_original)
    assert outcome.code == 1
    assert "have different hidden states: their logits differ by at most" in outcome.out
    assert "(max_abs_diff < 1e-04)" in outcome.out
    assert "First divergence: h.2.attn" in outcome.out


def test_where_a_report_cannot_be_written_nothing_is_computed(cli: Cli, tmp_path: Path) -> None:
    refusal = refused(cli("verify", "--model", tmp_path / "nothing", "--report", tmp_path / "nowhere" / "out.html"))
    assert refusal == f"error: There is no folder {tmp_path / 'nowhere'} to write out.html into. Make it first.\n"


def test_json_stays_json_when_a_number_is_not_finite(
    cli: Cli, tiny_original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        CompiledModel, "logits", lambda _self, ids, first=0: np.full((1, ids.shape[1] - first, 311), np.nan)
    )
    outcome = cli("verify", "--model", tiny_original, "--json")
    assert outcome.code == 1
    assert json.loads(outcome.out, parse_constant=lambda name: pytest.fail(name))["max_abs_diff"] is None


def test_a_text_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    from max_gpt2.cli.console import stdout, table

    stdout.print(table(("[a]", "left"), rows=[["[bold]:smile:[/nothing]"]], title="[b]"))
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("[a]", "[bold]:smile:[/nothing]", "[b]"))


def refused(outcome: Outcome) -> str:
    """The one complaint of a refused command."""
    assert outcome.code == 2
    assert outcome.out == ""
    lines = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in outcome.err
    return outcome.err


@pytest.mark.parametrize(
    ("arguments", "says"),
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
def test_bad_options(cli: Cli, tiny_original: Path, arguments: list[str], says: str) -> None:
    assert says in refused(cli("generate", "--model", tiny_original, *arguments))


Damage = Callable[[Path], object]


def remove(*names: str) -> Damage:
    def unlink(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return unlink


def write(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def spoil(name: str, value: np.ndarray) -> Damage:
    return lambda folder: edit_weights(folder, lambda tensors: tensors.update({name: value}))


def drop(name: str) -> Damage:
    def pop(tensors: dict[str, np.ndarray]) -> None:
        del tensors[name]

    return lambda folder: edit_weights(folder, pop)


BROKEN: list[tuple[Damage, str]] = [
    (remove("config.json"), "has no config.json"),
    (write("config.json", b"not json"), "is not readable JSON"),
    (lambda folder: edit_config(folder, model_type="bert"), 'model_type is "bert"'),
    (lambda folder: edit_config(folder, n_layer="3"), 'n_layer is "3"'),
    (drop("transformer.ln_f.bias"), "transformer.ln_f.bias [24] is missing"),
    (spoil("transformer.extra", np.zeros(1, np.float32)), "transformer.extra [1] does not belong to a GPT-2"),
    (spoil("transformer.ln_f.bias", np.zeros(23, np.float32)), "transformer.ln_f.bias is [23], expected [24]"),
    (
        spoil("transformer.ln_f.bias", np.full(24, np.nan, np.float32)),
        "transformer.ln_f.bias has 24 values that are NaN",
    ),
    (lambda folder: os.truncate(folder / "model.safetensors", 5000), "truncated or damaged"),
    (write("model.safetensors", b"<html>"), "web page"),
    (write("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
    (remove("model.safetensors"), "has no model.safetensors"),
    (write("tokenizer.json", b"{}"), "is not a tokenizer"),
    (lambda folder: edit_config(folder, vocab_size=200), "wte.weight is [311, 24], expected [200, 24]"),
    (remove("tokenizer.json", "vocab.json"), "has no tokenizer"),
]


@pytest.mark.parametrize(("damage", "says"), BROKEN, ids=[says for _, says in BROKEN])
@pytest.mark.parametrize("command", ["generate", "verify"])
def test_broken_checkpoints(cli: Cli, tiny: Path, command: str, damage: Damage, says: str) -> None:
    damage(tiny)
    assert says in refused(cli(command, "--model", tiny))


def test_a_tokenizer_with_ids_beyond_the_vocabulary(cli: Cli, tiny: Path) -> None:
    edit_config(tiny, vocab_size=290)
    edit_weights(
        tiny, lambda tensors: tensors.update({"transformer.wte.weight": tensors["transformer.wte.weight"][:290]})
    )
    assert "has 10 ids beyond the model's vocabulary of 290" in refused(cli("generate", "--model", tiny))


def test_no_such_folder_and_no_network(cli: Cli) -> None:
    assert 'There is no file or folder "./nothing"' in refused(cli("info", "--model", "./nothing"))
    assert 'There is no file or folder "~nobody-here/x"' in refused(cli("info", "--model", "~nobody-here/x"))
    assert "HF_HUB_OFFLINE is set" in refused(cli("generate", "x", "--model", "someone/no-such-model"))


def test_help_and_version(cli: Cli) -> None:
    assert "Checkpoints:" in cli().out
    assert cli("--version").out == "0.1.0\n"
    assert "unknown" not in cli("generate", "--help").out
    assert refused(cli("frobnicate")).startswith("error: No such command 'frobnicate'")


def test_an_error_that_nobody_foresaw_is_one_sentence(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_args: object, **_options: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("max_gpt2.checkpoint.inspect_checkpoint", explode)
    outcome = cli("info")
    assert outcome.code == 70
    assert "Internal error (ZeroDivisionError: oh)" in outcome.err
    assert "Traceback" not in outcome.err


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "max_gpt2", *map(str, arguments)]
    # Without `env` a child would inherit what MAX has set behind Python's back, which hides the virtual environment.
    variables = os.environ | environment
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)


def test_ctrl_c_while_max_compiles(tiny_original: Path, tmp_path: Path) -> None:
    empty_cache = {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    with start("generate", "--model", tiny_original, **empty_cache) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert next(line for line in lines if line.startswith("Loading the weights"))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert out == ""
    assert "Stopped by Ctrl-C" in err
    assert "Traceback" not in err


def test_a_reader_that_has_seen_enough_is_no_error(tiny_original: Path) -> None:
    with start("info", "--model", tiny_original) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_without_a_network_it_says_so_in_one_line(tmp_path: Path) -> None:
    nowhere = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    with start("generate", "--model", "gpt2", **nowhere) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "the Hugging Face hub cannot be reached" in err
    assert "--model demo" in err


def test_nothing_but_comparing_needs_pytorch(tiny_original: Path) -> None:
    """The whole way from a folder to a text, in a process where importing PyTorch and transformers fails."""
    program = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None;from max_gpt2.cli import main; main()"
    )

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program, *map(str, arguments), "--model", str(tiny_original)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))

    for _ in range(2):  # the second finds the compiled graph in its file
        generated = run("generate", "The dog", "--max-new-tokens", 3, "--json")
        assert generated.returncode == 0, generated.stderr
        assert json.loads(generated.stdout)["prompt_tokens"]
        assert "Exception" not in generated.stderr
    assert run("info").returncode == 0
    refusal = run("verify")
    assert refusal.returncode == 2
    assert "pip install 'max-gpt2[compare]'" in refusal.stderr


def test_the_command_is_installed() -> None:
    command = shutil.which("max-gpt2", path=str(Path(sys.executable).parent))
    assert command is not None
    shown = subprocess.run([command, "--version"], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert shown.stdout == "0.1.0\n"
