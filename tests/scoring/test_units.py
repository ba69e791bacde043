"""Division of a text into units, for any text and any tokens."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from max_gpt2.scoring import Unit
from max_gpt2.scoring.units import divide
from tests.scoring.oracle import units_of_tokens

#: Letters, whitespace and terminators often, any other character sometimes.
TEXTS = st.text(
    st.one_of(st.sampled_from(" \t\n\r.!?ab\u3002\u201d)é猫🌍"), st.characters(exclude_categories=["Cs"])), max_size=40
)
UNITS = st.sampled_from(get_args(Unit))


@st.composite
def tokenized(draw: st.DrawFn) -> tuple[str, list[int], np.ndarray]:
    """Return a text, the lengths in bytes of its tokens, which end anywhere, and their spans."""
    text = draw(TEXTS)
    letters = [index for index, letter in enumerate(text) for _ in letter.encode()]
    ends = sorted(draw(st.sets(st.integers(1, max(1, len(letters) - 1))))) if len(letters) > 1 else []
    bounds = list(zip([0, *ends], [*ends, len(letters)], strict=True)) if letters else []
    spans = np.array([(letters[start], letters[end - 1] + 1) for start, end in bounds], dtype=np.int64).reshape(-1, 2)
    return text, [end - start for start, end in bounds], spans


@given(tokenized(), UNITS)
def test_every_token_belongs_to_exactly_one_unit(sample: tuple[str, list[int], np.ndarray], unit: Unit) -> None:
    text, _, spans = sample
    units = divide(text, spans, unit)
    assert [token for one in units for token in range(one.first_token, one.first_token + one.tokens)] == list(
        range(len(spans))
    )
    assert all(one.tokens for one in units)


@given(tokenized(), UNITS)
def test_units_and_the_whitespace_between_them_are_the_text(
    sample: tuple[str, list[int], np.ndarray], unit: Unit
) -> None:
    text, lengths, spans = sample
    units = divide(text, spans, unit)
    if unit == "token":
        assert "".join(
            text[start:end] for start, end in sorted({(one.start, one.end) for one in units})
        ) == text or any(one.end - one.start > 1 for one in units)
        return
    rebuilt, at = "", 0
    for one in units:
        assert not text[at : one.start].strip()
        rebuilt += text[at : one.start] + text[one.start : one.end]
        at = one.end
    assert rebuilt + text[at:] == text
    assert not text[at:].strip()
    assert bool(units) == bool(lengths)


@given(tokenized(), st.sampled_from(["word", "sentence", "line", "text"]))
def test_tokens_belong_to_the_unit_of_their_first_visible_character(
    sample: tuple[str, list[int], np.ndarray], unit: Unit
) -> None:
    text, lengths, spans = sample
    units = divide(text, spans, unit)
    # Each letter is a token here, so that every unit has one.
    letters = np.array([(index, index + 1) for index in range(len(text))], dtype=np.int64).reshape(-1, 2)
    bounds = [(one.start, one.end) for one in divide(text, letters, unit)]
    owners = units_of_tokens(text, lengths, bounds)
    assert [owner for one, owner in enumerate(owners) if one == 0 or owner != owners[one - 1]] == sorted(set(owners))
    assert [one.tokens for one in units] == [owners.count(owner) for owner in sorted(set(owners))]
    for one, owner in zip(units, sorted(set(owners)), strict=True):
        assert one.start == bounds[owner][0]
        assert one.end in [end for _, end in bounds[owner:]]


def units_of(text: str, unit: Unit) -> list[str]:
    letters = np.array([(index, index + 1) for index in range(len(text))], dtype=np.int64).reshape(-1, 2)
    return [text[one.start : one.end] for one in divide(text, letters, unit)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Pi is 3.14, e.g. here. “Yes!” he said.", ["Pi is 3.14, e.g. here.", "“Yes!”", "he said."]),
        ("(It was.) \"No.\" 'So?!' Well…", ["(It was.)", '"No."', "'So?!'", "Well…"]),
        ("wait … what… no\nmore", ["wait … what… no\nmore"]),
        ("猫が好き。犬も！ 本当？はい", ["猫が好き。", "犬も！", "本当？", "はい"]),  # noqa: RUF001
        ("Title\n\nText of it\r\n \t\r\nEnd", ["Title", "Text of it", "End"]),
        ("one line\r\nand the next\rand more\nend.", ["one line\r\nand the next\rand more\nend."]),
        (" \t ", [" \t "]),
        ("", []),
        (" . ", ["."]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert units_of(text, "sentence") == expected


def test_words_are_spans_of_the_original_string() -> None:
    text = "\t“Don't,”\u00a0she  said—\u3000naïve 🌍.\n"
    assert units_of(text, "word") == ["“Don't,”", "she", "said—", "naïve", "🌍."]


def test_lines_keep_their_indentation() -> None:
    assert units_of("\n  if x:\r\n\ty \r\r\n \nend", "line") == ["  if x:", "\ty ", "end"]
    assert units_of(" \n\t\n", "line") == [" \n\t\n"]
    assert units_of("a\u2028b\x0bc", "line") == ["a\u2028b\x0bc"]


def test_token_that_spans_several_words_joins_them() -> None:
    spans = np.array([[0, 1], [1, 5], [5, 7]])
    found = divide("a b c d", spans, "word")
    assert [("a b c d"[one.start : one.end], one.tokens) for one in found] == [("a", 1), ("b c", 1), ("d", 1)]


@pytest.mark.parametrize(
    "text", ["." * 200_000 + "a", "\n" * 200_000, " " * 200_000 + "a", "a. " * 70_000, '.")' * 70_000]
)
@pytest.mark.parametrize("unit", ["word", "sentence", "line"])
def test_division_takes_linear_time(text: str, unit: Unit) -> None:
    letters = np.stack([np.arange(len(text)), np.arange(len(text)) + 1], axis=1)
    assert divide(text, letters, unit)
