import pytest
from hypothesis import given
from hypothesis import strategies as st

from max_gpt2.errors import RequestError
from max_gpt2.tokenizer.stop_strings import StopMatcher
from tests.support.growth import assert_linear

PARTS = st.lists(st.text("ab", max_size=6), max_size=8)
STOPS = st.lists(st.text("ab", min_size=1, max_size=6), max_size=4)


@given(PARTS, STOPS)
def test_first_match_is_that_of_find(parts: list[str], stops: list[str]) -> None:
    matcher, text = StopMatcher(stops), ""
    for part in parts:
        text += part
        found = matcher.add(part)
        assert found == min((index for one in stops if (index := text.find(one)) >= 0), default=None)
        if found is not None:
            return
        prefixes = [one[:size] for one in stops for size in range(len(one)) if text.endswith(one[:size])]
        assert matcher.partial == max(map(len, prefixes), default=0)


@pytest.mark.parametrize(
    "stop", [lambda size: "a" * size, lambda size: "ab" * size, lambda size: "a" * (size // 2) + "b" * size]
)
def test_time_is_linear_in_a_text_that_almost_matches(stop: object) -> None:
    assert callable(stop)

    def match(stops: list[str]) -> None:
        matcher = StopMatcher(stops)
        for start in range(0, len(stops[0]) - 2, 5):
            assert matcher.add(stops[0][start : min(start + 5, len(stops[0]) - 2)]) is None
            matcher.add("c" if start % 1000 == 0 else "")

    assert_linear(lambda size: [stop(size)] * 2, match, 4_000)


def test_length_of_a_stop_string_costs_nothing() -> None:
    matcher = StopMatcher(["a" * 50_000_000])
    assert matcher.add("aab" * 10 + "aa") is None
    assert matcher.partial == 2


def test_empty_stop_string_is_rejected() -> None:
    with pytest.raises(RequestError, match="stop string is empty"):
        StopMatcher(["a", ""])
