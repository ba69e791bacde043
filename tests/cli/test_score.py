"""`max-gpt2 score` with one text."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fixtures.checkpoints import UNEVEN, reference_logits, reference_model
from max_gpt2.checkpoint import Checkpoint
from tests.support.cli import Cli, refused

TEXT = "The dog, being lazy"
LONG = "Was it the best of times, was it the worst of times, was it the age of foxes? " * 3


@pytest.fixture
def score(cli: Cli, tiny_original: Path) -> Cli:
    return lambda *arguments: cli("score", "--model", tiny_original, *arguments)


def found(score: Cli, *arguments: object) -> dict[str, Any]:
    outcome = score(*arguments, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def reference(tokens: list[int], *, bos: bool = True) -> torch.Tensor:
    """Return the log probabilities of every id in place of each token that has some, [tokens, vocab], in float64."""
    ids = [UNEVEN["bos_token_id"], *tokens] if bos else tokens
    return torch.from_numpy(reference_logits(reference_model(), np.array([ids])))[0, :-1].double().log_softmax(-1)


@pytest.mark.parametrize(("base", "log_of_base"), [("e", 1.0), ("2", math.log(2)), ("10", math.log(10))])
def test_scores_match_transformers(score: Cli, tiny_checkpoint: Checkpoint, base: str, log_of_base: float) -> None:
    result = found(score, TEXT, "--base", base, "--ranks", "--entropy", "--top", 3)
    tokens = tiny_checkpoint.tokenizer.encode(TEXT)
    logprobs = reference(tokens)
    expected = logprobs[range(len(tokens)), tokens]
    units = result["units"]
    assert [one["id"] for one in units] == result["tokens"] == tokens
    assert "".join(one["text"] for one in units) == TEXT
    assert [one["logprob"] for one in units] == pytest.approx((expected / log_of_base).tolist(), abs=1e-4)
    assert [one["surprisal"] for one in units] == [-one["logprob"] for one in units]
    entropies = torch.distributions.Categorical(logits=logprobs).entropy() / log_of_base
    assert [one["entropy"] for one in units] == pytest.approx(entropies.tolist(), abs=1e-4)
    assert [one["rank"] for one in units] == ((logprobs > expected[:, None]).sum(-1) + 1).tolist()
    best = logprobs.topk(3)
    assert [[top["id"] for top in one["top"]] for one in units] == best.indices.tolist()
    assert result["logprob"] == pytest.approx(float(expected.sum()) / log_of_base, abs=1e-3)
    assert result["perplexity"] == pytest.approx(float((-expected.mean()).exp()), rel=1e-4)
    assert result["bits_per_byte"] == pytest.approx(-float(expected.sum()) / math.log(2) / len(TEXT), rel=1e-4)


def test_without_bos_the_first_token_has_no_score(score: Cli, tiny_checkpoint: Checkpoint) -> None:
    result = found(score, TEXT, "--no-bos", "--ranks")
    tokens = tiny_checkpoint.tokenizer.encode(TEXT)
    expected = reference(tokens, bos=False)[range(len(tokens) - 1), tokens[1:]]
    assert (result["units"][0]["logprob"], result["units"][0]["rank"]) == (None, None)
    assert [one["logprob"] for one in result["units"][1:]] == pytest.approx(expected.tolist(), abs=1e-4)
    assert result["counted"] == len(tokens) - 1
    assert result["perplexity"] == pytest.approx(float((-expected.mean()).exp()), rel=1e-4)
    shown = score(TEXT, "--no-bos")
    assert f"{len(tokens)} tokens, {len(tokens) - 1} of them with a probability, log probability" in shown.out
    assert "only 1 token" in refused(score("--prompt-ids", "5", "--no-bos"))
    assert "only 0 tokens" in refused(score("", "--no-bos"))


def test_units_are_spans_of_the_text_and_add_up(score: Cli) -> None:
    text = "  Don't\tpanic,\nlazy 🌍 dog!  "
    total = found(score, text)["logprob"]
    for unit, words in (("word", ["Don't", "panic,", "lazy", "🌍", "dog!"]), ("line", None), ("text", [text])):
        units = found(score, text, "--unit", unit)["units"]
        assert words is None or [one["text"] for one in units] == words
        assert [text[one["start"] : one["end"]] for one in units] == [one["text"] for one in units]
        assert math.fsum(one["logprob"] for one in units) == pytest.approx(total)


def test_prompt_ids_are_scored_like_their_text(score: Cli) -> None:
    result = found(score, TEXT)
    assert found(score, "--prompt-ids", ",".join(map(str, result["tokens"]))) == result


def columns(out: str) -> list[str]:
    """Return the names of the columns of a table."""
    header = out.split("┡")[0].splitlines()[1:]
    cells = [re.split("[┃│]", line)[1:-1] for line in header]
    return [" ".join(" ".join(parts).split()) for parts in zip(*cells, strict=True)]


def test_table_has_the_requested_columns(score: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("max_gpt2.cli.console.stdout._width", 200)
    shown = score(TEXT)
    assert columns(shown.out) == ["id", "token", "span", "log probability", "surprisal (nats)"]
    result = found(score, TEXT)
    for one in result["units"]:
        assert f"{one['start']}:{one['end']}" in shown.out
        assert f"{one['surprisal']:.4f}" in shown.out
    totals = f"perplexity {result['perplexity']:.4f}, bits per byte {result['bits_per_byte']:.4f}\n"
    assert shown.out.endswith(f"{len(result['tokens'])} tokens, log probability {result['logprob']:.4f}, {totals}")
    shown = score(TEXT, "--unit", "word", "--base", "2", "--ranks", "--entropy", "--top", 2)
    names = ["word", "span", "log probability", "surprisal (bits)", "rank", "entropy (bits)", "most likely tokens"]
    assert columns(shown.out) == names
    assert "(base 2), perplexity" in shown.out
    assert "'dog,'" in shown.out


def test_control_characters_and_bytes_are_escaped_once(score: Cli) -> None:
    shown = score("a\t\n🌍\\").out
    assert "'\\xf0'" in shown
    assert "'\\\\'" not in shown
    assert any(one in shown for one in ("'\\t'", "'\\t\\n'"))


def test_text_longer_than_the_context_has_its_contexts(score: Cli) -> None:
    positions = UNEVEN["n_positions"]
    result = found(score, LONG, "--stride", 20)
    assert (result["window"], result["stride"]) == (positions, 20)
    contexts = [one["context"] for one in result["units"]]
    assert contexts[:positions] == list(range(1, positions + 1))
    assert set(contexts[positions:]) == set(range(positions - 20 + 1, positions + 1))
    shown = score(LONG, "--stride", 20)
    assert "context" in columns(shown.out)
    assert (
        "The text is longer than the window of 67 ids. With stride 20, each token after the first window has 48 to "
        in (shown.out)
    )
    ids = result["tokens"]
    fits = ",".join(map(str, ids[:positions]))
    assert "context" not in score("--prompt-ids", fits).out
    assert "context" in score("--prompt-ids", f"{fits},1").out
    shown = score("--prompt-ids", fits, "--window", 9, "--stride", 1)
    assert "each token after the first window has 9 ids of context" in shown.out


def test_correction_moves_the_end_of_a_word(score: Cli, tiny_checkpoint: Checkpoint) -> None:
    plain = found(score, TEXT, "--unit", "word")
    result = found(score, TEXT, "--unit", "word", "--word-boundary-correction")
    tokens, vocabulary = result["tokens"], tiny_checkpoint.tokenizer
    boundary = [id_ for id_ in range(300) if vocabulary.token_bytes(id_).startswith(b" ")]
    after = reference([*tokens, 0])[1:, boundary].logsumexp(-1)  # log p(a word starts) after each token
    ends = [at for at in range(len(tokens)) if at + 1 == len(tokens) or tokens[at + 1] in boundary]
    moved = np.array([float(after[at]) for at in ends])
    expected = np.array([one["logprob"] for one in plain["units"]]) + moved - np.array([0.0, *moved[:-1]])
    assert [one["logprob"] for one in result["units"]] == pytest.approx(expected.tolist(), abs=1e-3)
    assert result["word_boundary_correction"] is True


def test_empty_text_has_nothing_to_score(score: Cli) -> None:
    outcome = score("")
    assert (outcome.code, outcome.out) == (0, "The text is empty, so there is nothing to score.\n")
    result = found(score, "")
    assert (result["units"], result["counted"], result["logprob"], result["perplexity"]) == ([], 0, 0, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "There is no text. Give a text, --prompt-ids or --input."),
        (["a", "--prompt-ids", "1"], "Both a text and --prompt-ids are given"),
        (["--prompt-ids", "1,x"], "'1,x' is not a list of ids"),
        (["--prompt-ids", "1,311"], "311 is not in 0 .. 310"),
        (["\udcff"], "not valid Unicode"),
        (["a", "--stride", "0"], "stride 0 is not a positive integer"),
        (["a", "--window", "68"], "window 68 is not in 1 .. 67"),
        (["a", "--window", "9", "--stride", "10"], "stride 10 is not in 1 .. 9"),
        (["a", "--top", "101"], "top 101 is not in 0 .. 100"),
        (["a", "--unit", "phrase"], "phrase"),
        (["a", "--base", "3"], "'3'"),
        (["a", "--text-column", "t"], "--text-column needs --input"),
        (["a", "--id-column", "t"], "--id-column needs --input"),
        (["a", "--output", "out.tsv"], "--output needs --input"),
    ],
)
def test_bad_request_is_one_error_before_the_weights_are_loaded(score: Cli, arguments: list[str], message: str) -> None:
    error = refused(score(*arguments))
    assert message in error
    assert "Loading" not in error
