from typing import Any

import pytest

from max_gpt2.errors import RequestError
from max_gpt2.generation import SamplingParams


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0.0),
        ("presence_penalty", float("inf")),
        ("frequency_penalty", float("nan")),
        ("no_repeat_ngram_size", -1),
        ("logit_bias", {3: float("nan")}),
        ("bad_words", [[1], []]),
        ("min_new_tokens", -1),
        ("seed", -1),
    ],
)
def test_invalid_value_is_rejected_by_name(name: str, value: Any) -> None:
    with pytest.raises(RequestError) as refusal:
        SamplingParams(**{name: value})
    assert str(refusal.value).startswith(f"Invalid sampling parameters: {name} {value} is not ")


def test_all_invalid_values_are_listed() -> None:
    with pytest.raises(RequestError, match=r"2 problems:\n  - top_k -1 .*\n  - min_p 2 "):
        SamplingParams(top_k=-1, min_p=2)
