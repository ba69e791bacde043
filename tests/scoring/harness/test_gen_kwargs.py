"""The options for generation that a task of the harness may have."""

from typing import Any

import pytest
from lm_eval.models.utils import normalize_gen_kwargs

from max_gpt2.errors import RequestError
from max_gpt2.generation import SamplingParams
from max_gpt2.scoring.gen_kwargs import TOP_K, read_gen_kwargs


def read(**options: Any) -> Any:
    return read_gen_kwargs(options, 3, "The task tiny")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"until": "\n"},
        {"until": ["a", "b"], "max_gen_toks": 5, "do_sample": False},
        {"max_tokens": "7", "max_completion_tokens": 2, "until": None},
        {"max_new_tokens": 9, "max_tokens": 1, "temperature": 0.0},
        {"do_sample": False, "temperature": 0.7, "top_p": 0.5},
        {"temperature": 0.7},
    ],
)
def test_meaning_is_that_of_the_harness(options: dict[str, Any]) -> None:
    found, expected = read(**options), normalize_gen_kwargs(options)
    assert found.max_gen_toks == expected["max_gen_toks"]
    assert found.until == [one for one in expected["until"] if one is not None]
    assert (found.sampling.temperature > 0) == expected["do_sample"]


def test_options_for_sampling_apply_only_to_sampling() -> None:
    assert read(top_p=0.5, top_k=3, min_p=0.1, repetition_penalty=1.5).sampling == SamplingParams(
        temperature=0, repetition_penalty=1.5, seed=3
    )
    sampled = read(do_sample=True, temperature=0.5, top_p=0.9).sampling
    assert sampled == SamplingParams(temperature=0.5, top_p=0.9, top_k=TOP_K, seed=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"foo": 1, "topk": 3}, r"The task tiny has generation_kwargs .* not support: foo, topk"),
        ({"top_kk": 3}, r"top_kk \(did you mean top_k\?\)"),
        ({"num_beams": 4}, r"beam search \(num_beams 4\)"),
        ({"max_gen_toks": 0}, "generates 0 tokens"),
        ({"max_gen_toks": "many"}, "value 'many' of max_gen_toks, which is not a number"),
        ({"temperature": [1]}, r"value \[1\] of temperature"),
        ({"do_sample": "maybe"}, "neither true nor false"),
        ({"do_sample": True}, "do_sample without a temperature"),
        ({"until": [1]}, r"value \[1\] of until"),
        ({"temperature": -1.0, "do_sample": True}, "temperature -1.0 is not"),
    ],
)
def test_unknown_and_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read(**options)
