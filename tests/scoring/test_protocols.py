"""Each protocol of perplexity equals the program that it is named after."""

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from fixtures.checkpoints import TEXT
from max_gpt2.errors import RequestError
from max_gpt2.scoring import Scorer
from max_gpt2.scoring.measurement import Measurement, PerplexityOptions, measure, plan_perplexity
from max_gpt2.scoring.protocols import PROTOCOLS
from max_gpt2.tokenizer import GPT2Tokenizer

CONTEXT, BOS = 67, 299
WORDS = [*TEXT.split(" "), "naïve", "🌍", "你好", "\n\n", "\tx", "  ", ""]


@pytest.fixture(scope="module")
def reference(tiny_original: Path) -> Any:
    return transformers.GPT2LMHeadModel.from_pretrained(tiny_original).eval()


def text_of(words: int, seed: int = 0) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


TEXTS = st.builds(text_of, st.integers(25, 60), st.integers(0, 9))


def measured(scorer: Scorer, text: str, protocol: str, **options: Any) -> list[Measurement]:
    plans, report = plan_perplexity(
        scorer.config, scorer.tokenizer, text, PerplexityOptions([protocol] if protocol else [], **options)
    )
    return measure(scorer, plans, report).results


def losses(model: Any, inputs: list[int], targets: list[int]) -> torch.Tensor:
    """Return the loss of each target, aligned with the last inputs."""
    with torch.no_grad():
        logits = model(torch.tensor([inputs])).logits[0, -len(targets) :]
    return cross_entropy(logits.double(), torch.tensor(targets), reduction="none")


@settings(max_examples=6)
@given(text=TEXTS, window=st.integers(1, CONTEXT), bos=st.booleans())
def test_disjoint_equals_blocks_of_llm_c_and_nanogpt(
    scorer: Scorer, reference: Any, text: str, window: int, bos: bool
) -> None:
    """x is data[i : i + T] and y data[i + 1 : i + 1 + T]; the mean of y's losses over the blocks i = 0, T, 2 T, ..."""
    data = [BOS] * bos + scorer.tokenizer.encode(text)
    window = min(window, len(data) - 1)
    blocks = (len(data) - 1) // window
    found = torch.cat(
        [
            losses(reference, data[i : i + window], data[i + 1 : i + 1 + window])
            for i in range(0, blocks * window, window)
        ]
    )
    (ours,) = measured(scorer, text, "disjoint", window=window, bos=bos)
    assert (ours.count, ours.scored_tokens) == (len(found), len(found))
    assert math.log(ours.perplexity) == pytest.approx(found.mean().item(), abs=1e-4)


def strided_recipe(model: Any, ids: torch.Tensor, window: int, stride: int) -> float:
    """Compute the loss of the page on perplexity in the documentation of transformers: [1, seq] of ids."""
    total, tokens, previous = 0.0, 0, 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + window, ids.shape[1])
        inputs = ids[:, begin:end]
        labels = inputs.clone()
        labels[:, : -(end - previous)] = -100
        with torch.no_grad():
            loss = model(inputs, labels=labels).loss.item()
        count = int((labels != -100).sum()) - 1
        total, tokens, previous = total + (loss * count if count else 0.0), tokens + count, end
        if end == ids.shape[1]:
            break
    return total / tokens


@settings(max_examples=6)
@given(text=TEXTS, sizes=st.tuples(st.integers(2, CONTEXT), st.integers(1, CONTEXT)).map(sorted), bos=st.booleans())
def test_strided_equals_the_recipe_of_transformers(
    scorer: Scorer, reference: Any, text: str, sizes: list[int], bos: bool
) -> None:
    stride, window = sizes[0], max(2, sizes[1])
    if window > 5 * stride:
        stride = window  # thousands of windows take too long
    ids = torch.tensor([[BOS] * bos + scorer.tokenizer.encode(text)])
    if stride == 1 and window == 2:
        stride = 2  # every later window counts for no token
    expected = strided_recipe(reference, ids, window, stride)
    (ours,) = measured(scorer, text, "strided", window=window, stride=stride, bos=bos)
    assert math.log(ours.perplexity) == pytest.approx(expected, abs=1e-4)
    assert ours.nll / ours.count == pytest.approx(expected, abs=1e-4)


@pytest.fixture(scope="module")
def harness(tiny_original: Path) -> Any:
    """lm_eval's model for transformers, on the tiny checkpoint."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(tiny_original), device="cpu", batch_size=2, prefix_token_id=BOS)


@pytest.mark.parametrize("words", [1, 20, 60])
@pytest.mark.parametrize("window", [5, CONTEXT])
def test_rolling_and_lm_eval_equal_the_harness(
    scorer: Scorer, harness: Any, words: int, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.api.metrics import bits_per_byte, weighted_perplexity
    from lm_eval.tasks.wikitext.preprocess_wikitext import process_results

    text = f"  {text_of(words, words)} end.\n"
    monkeypatch.setattr(harness, "_max_length", window)
    (logprob,) = harness.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text,), 0)], disable_tqdm=True)
    metrics = process_results({"page": text}, [logprob])
    (rolling,) = measured(scorer, text, "rolling", window=window)
    word, byte = measured(scorer, text, "lm-eval", window=window)
    count = len(scorer.tokenizer.encode(text))
    assert rolling.nll == word.nll == byte.nll == pytest.approx(-logprob, abs=1e-4 * count)
    assert rolling.count == rolling.scored_tokens == word.scored_tokens == count
    assert math.log(rolling.perplexity) == pytest.approx(-logprob / count, abs=1e-4)
    assert (word.denominator, byte.denominator) == ("word", "byte")
    assert word.perplexity == pytest.approx(weighted_perplexity([metrics["word_perplexity"]]), rel=1e-3)
    assert byte.perplexity == pytest.approx(weighted_perplexity([metrics["byte_perplexity"]]), rel=1e-3)
    for one in (rolling, word, byte):
        assert one.bits_per_byte == pytest.approx(bits_per_byte([metrics["bits_per_byte"]]), abs=1e-4)


@settings(max_examples=6)
@given(text=TEXTS, window=st.integers(3, CONTEXT), bos=st.booleans(), newlines=st.integers(0, 2))
def test_llama_cpp_equals_its_definition(
    scorer: Scorer, reference: Any, text: str, window: int, bos: bool, newlines: int
) -> None:
    """The file without a last newline; chunks of n_ctx tokens; logits from n_ctx / 2 to n_ctx - 2 predict the next."""
    text = text.rstrip("\n")
    tokens = [BOS] * bos + scorer.tokenizer.encode(text + "\n" * max(0, newlines - 1))
    window = min(window, len(tokens) // 2)
    first, nll, count = window // 2, 0.0, 0
    for chunk in range(len(tokens) // window):
        row = tokens[chunk * window : (chunk + 1) * window]
        evaluated = torch.tensor([[BOS, *row[1:]] if bos else row])
        with torch.no_grad():
            logits = reference(evaluated).logits[0].double()
        for position in range(first, window - 1):
            nll -= logits[position].log_softmax(-1)[row[position + 1]].item()
            count += 1
    (ours,) = measured(scorer, text + "\n" * newlines, "llama.cpp", window=window, bos=bos)
    assert (ours.count, ours.scored_tokens) == (count, count)
    assert math.log(ours.perplexity) == pytest.approx(nll / count, abs=1e-4)


@settings(max_examples=4)
@given(text=TEXTS, window=st.integers(8, CONTEXT))
def test_bits_per_byte_count_the_bytes_of_the_scored_tokens(scorer: Scorer, text: str, window: int) -> None:
    """A BOS has no bytes."""
    ids = scorer.tokenizer.encode(text)
    for one in measured(scorer, text, "", window=window):
        if one.scored_tokens == len(ids):
            assert one.bits_per_byte == pytest.approx(one.nll / math.log(2) / len(text.encode()))
    (one,) = measured(scorer, text, "disjoint", window=window)
    size = sum(len(scorer.tokenizer.token_bytes(id_)) for id_ in ids[1 : 1 + one.scored_tokens])
    assert one.bits_per_byte == pytest.approx(one.nll / math.log(2) / size)


def test_all_protocols_share_the_settings_that_they_leave_open(scorer: Scorer) -> None:
    found = measured(scorer, text_of(100), "", window=20, stride=7, bos=True)
    assert [(one.protocol, one.denominator) for one in found] == [
        ("disjoint", "token"),
        ("strided", "token"),
        ("rolling", "token"),
        ("lm-eval", "word"),
        ("lm-eval", "byte"),
        ("llama.cpp", "token"),
    ]
    assert {one.window for one in found} == {20}
    assert all(one.bos for one in found)
    assert {one.protocol: one.stride for one in found} == dict.fromkeys(PROTOCOLS, 20) | {"strided": 7}


def test_tokenizer_without_bos_leaves_the_protocols_that_need_none(scorer: Scorer) -> None:
    vocab = {letter: id_ for id_, letter in enumerate("abc")}
    tokenizer = GPT2Tokenizer.from_vocab(vocab, [], 311, "vocab.json")
    plans, report = plan_perplexity(scorer.config, tokenizer, "abc" * 50, PerplexityOptions())
    assert [one.protocol.name for one in plans] == ["disjoint", "strided", "llama.cpp"]
    assert set(report.skipped.values()) == {
        f"The tokenizer has no BOS token, which {one} needs." for one in report.skipped
    }
    with pytest.raises(RequestError, match="has no BOS token, which rolling needs"):
        plan_perplexity(scorer.config, tokenizer, "abc" * 50, PerplexityOptions(["rolling"]))
