"""Our model for the harness against the harness's own `hf`, request by request, on the same checkpoint."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance, OutputType
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM

from max_gpt2._progress import Result
from max_gpt2.errors import CheckpointError, RequestError
from max_gpt2.generation import BATCH_SIZE, open_model
from max_gpt2.scoring.harness import MaxGPT2LM

PIECES = ["The", " dog", "lazy", " lazy", " fox,", " ", "  ", "\t", "\n", "é", "日本", "🙂", "<|endoftext|>", ".", "x"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)


def instances(kind: OutputType, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, one, 0, ("tiny", number, 1)) for number, one in enumerate(arguments)]


@settings(max_examples=40)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_loglikelihood_equals_hf(ours: MaxGPT2LM, theirs: HFLM, pairs: list[tuple[str, str]]) -> None:
    assume(all(context == "" or context.strip() for context, _ in pairs))  # `hf` fails for a context of spaces
    # `hf` scores an empty continuation beside others of its context.
    assume(len(pairs) == 1 or all(continuation for _, continuation in pairs))
    requests = instances("loglikelihood", *pairs)
    try:
        expected = theirs.loglikelihood(requests, disable_tqdm=True)
    except (AssertionError, IndexError):  # a continuation without a token, or with too many
        with pytest.raises(RequestError, match="continuation"):
            ours.loglikelihood(requests)
        return
    found = ours.loglikelihood(requests)
    np.testing.assert_allclose([one[0] for one in found], [one[0] for one in expected], rtol=0, atol=1e-4)
    assert [one[1] for one in found] == [one[1] for one in expected]
    assert ours.loglikelihood(requests[::-1]) == found[::-1]


def test_context_of_spaces_moves_into_the_continuation(ours: MaxGPT2LM, theirs: HFLM) -> None:
    (found,) = ours.loglikelihood(instances("loglikelihood", (" \n", "The dog")))
    assert [found] == ours.loglikelihood(instances("loglikelihood", ("", " \nThe dog")))
    with pytest.raises(AssertionError):
        theirs.loglikelihood(instances("loglikelihood", (" \n", "The dog")), disable_tqdm=True)


def test_greedy_continuation_is_recognized(ours: MaxGPT2LM, theirs: HFLM) -> None:
    contexts = [f"The{' lazy' * count}" for count in range(10)]
    requests = instances("loglikelihood", *itertools.product(contexts, map(chr, range(32))))
    found = [one[1] for one in ours.loglikelihood(requests)]
    assert found == [one[1] for one in theirs.loglikelihood(requests, disable_tqdm=True)]
    assert 1 < sum(found) <= len(contexts)


@settings(max_examples=20)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=400).map("".join), min_size=1, max_size=3))
def test_rolling_loglikelihood_equals_hf(ours: MaxGPT2LM, theirs: HFLM, texts: list[str]) -> None:
    requests = instances("loglikelihood_rolling", *((text,) for text in texts))
    expected = theirs.loglikelihood_rolling(requests, disable_tqdm=True)
    tokens = sum(len(theirs.tok_encode(text)) for text in texts)
    np.testing.assert_allclose(ours.loglikelihood_rolling(requests), expected, rtol=0, atol=1e-4 * max(1, tokens))


CONTEXTS = [
    "The dog",
    "Was it the ",
    "x",
    "é日本",
    "lazy fox, " * 30,
    "<|endoftext|>The",
    "It\n\n",
    "dog " * 20,
    "being",
]
OPTIONS: list[dict[str, Any]] = [
    {"until": [], "max_gen_toks": 20},
    {"until": ["o", "<|endoftext|>"], "max_gen_toks": 20},
    {"until": "e", "max_new_tokens": 16, "do_sample": False, "temperature": 0.7},
    {"until": ["\n", "az", "g,"], "max_gen_toks": 60, "temperature": 0, "num_beams": 1},
    {"max_gen_toks": 12, "repetition_penalty": 1.7, "no_repeat_ngram_size": 2, "do_sample": False},
]


def test_greedy_texts_equal_hf(ours: MaxGPT2LM, theirs: HFLM) -> None:
    requests = instances("generate_until", *itertools.product(CONTEXTS, OPTIONS))
    found = ours.generate_until(requests)
    assert found == theirs.generate_until(requests, disable_tqdm=True)
    assert len(set(found)) > len(found) / 2  # the texts differ, so equality says something
    lengths = [len(ours.tok_encode(text)) for text in found]
    assert len(set(lengths)) > 4  # stop strings were found


def test_tokens_and_special_ids_equal_hf(ours: MaxGPT2LM, theirs: HFLM) -> None:
    for text in ("a<|endoftext|> b", "<|endoftext|>", " The dog\t", ""):
        assert ours.tok_encode(text) == theirs.tok_encode(text)
    assert (ours.prefix_token_id, ours.eot_token_id) == (theirs.prefix_token_id, theirs.eot_token_id)
    assert ours.max_length == theirs.max_length


def test_truncated_requests_are_counted(checkpoint: Any, ours: MaxGPT2LM) -> None:
    lm = MaxGPT2LM(open_model(checkpoint), max_length=10)
    lm.__dict__["scorer"] = ours.scorer
    requests = instances("loglikelihood", ("x" * 9, "xx"), ("x" * 10, "xx"), ("x" * 30, "x"))
    lm.loglikelihood(requests)
    assert lm.truncated == 2
    assert lm.get_model_info()["truncated_requests"] == 2
    with pytest.raises(RequestError, match=r"continuation 'xxxxxxxxxxx' has 11 tokens, which is not in 1 \.\. 10"):
        lm.loglikelihood(instances("loglikelihood", ("x", "x" * 11)))


def test_samples_have_different_seeds_and_are_reproducible(checkpoint: Any, ours: MaxGPT2LM) -> None:
    requests = instances("generate_until", *[("The dog", {"temperature": 2.0, "max_gen_toks": 12})] * 4)
    found = ours.generate_until(requests)
    assert len(set(found)) == 4
    assert ours.generate_until(requests) == found
    other = MaxGPT2LM(checkpoint, seed=5, batch_size="auto")
    other.__dict__["engine"] = ours.engine
    assert other.batch_size == BATCH_SIZE
    assert not set(other.generate_until(requests)) & set(found)


def test_weights_are_loaded_once(ours: MaxGPT2LM) -> None:
    labels: list[str] = []

    def run(label: str, work: Callable[[], Result], /) -> Result:
        labels.append(label)
        return work()

    lm = MaxGPT2LM(ours.source, run=run)
    assert lm.scorer.config == lm.engine.model.config
    assert labels.count("Loading the weights") == 1


def test_harness_makes_the_model_by_name(checkpoint: Any) -> None:
    made = get_model("max-gpt2").create_from_arg_string(
        f"pretrained={checkpoint},kernels=builtin,max_length=20",
        {"batch_size": "4", "max_batch_size": 64, "device": "cuda:0"},
    )
    assert isinstance(made, MaxGPT2LM)
    assert (made.batch_size, made.max_length, made.source.options.kernels) == (4, 20, "builtin")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch size 0 is neither"),
        ({"batch_size": "many"}, "batch size 'many' is neither"),
        ({"max_length": 68}, "window 68 is not in 1 .. 67"),
    ],
)
def test_invalid_arguments_are_refused(checkpoint: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        MaxGPT2LM(checkpoint, **options)


def test_adapter_is_passed_on(checkpoint: Any, tmp_path: Any) -> None:
    with pytest.raises((CheckpointError, RequestError), match="adapter"):
        MaxGPT2LM(checkpoint, adapter=str(tmp_path))
