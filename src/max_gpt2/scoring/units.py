"""Divide a text into words, sentences or lines, and assign each token to one of them.

A unit is a span of the original string:

- A word is a maximal run of characters that are not whitespace, so punctuation and clitics stay attached.
- A sentence ends after `.`, `!`, `?` or `…`, with the quotes and brackets that close it, when whitespace follows and,
  after `.` or `…`, no lowercase letter begins the next word; after the full-width forms of these; and at an empty line.
- A line ends at a line feed, a carriage return, or both.

Neither a unit nor its text includes the whitespace around it, except the indentation of a line. A token belongs to the
unit of its first character that is not whitespace. Tokens that are whitespace only belong to the next unit, at the end
of the text to the last one. Every token thus belongs to exactly one unit.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from max_gpt2.scoring.options import Unit

# The full-width full stop, exclamation mark and question mark, after which no space is written.
_WIDE = "\u3002\uff01\uff1f"
_CLOSING = "\"'\u2019\u201d\u00bb\u203a)\\]}\u300d\u300f\uff09\u3011"  # quotes and brackets
# Possessive: after a long run of full stops, a shorter one is not tried.
_TERMINATOR = re.compile(f"(?:[.!?…]++|[{_WIDE}]++)[{_CLOSING}]*+")
_EMPTY_LINE = re.compile(r"(?:\r\n|\n|\r(?!\n))[^\S\r\n]*+(?=[\r\n])")
_WORD = re.compile(r"\S++")
_LINE = re.compile(r"[^\r\n]++")
_WHITESPACE = np.array([code for code in range(0x3001) if chr(code).isspace()], dtype=np.uint32)


@dataclass(frozen=True)
class UnitSpan:
    """A unit: its characters `start` .. `end` - 1, and its tokens, the first and their number."""

    start: int
    end: int
    first_token: int
    tokens: int


def divide(text: str, spans: np.ndarray, unit: Unit) -> list[UnitSpan]:
    """Divide a text with tokens at `spans`, [tokens, 2], into units that have at least one token each."""
    if not len(spans):
        return []
    if unit == "token":
        return [UnitSpan(start, end, at, 1) for at, (start, end) in enumerate(spans.tolist())]
    bounds = list(_BOUNDS[unit](text)) or [(0, len(text))]
    starts = np.array([start for start, _ in bounds])
    owners = _owners(text, spans, starts)
    firsts = np.flatnonzero(np.diff(owners, prepend=-1))
    afters = np.append(firsts[1:], len(spans))
    # A token can reach into units without a token of their own, which then belong to its unit.
    first_units, next_units = owners[firsts], np.append(owners[firsts[1:]], len(bounds))
    last_units = np.clip(np.searchsorted(starts, spans[afters - 1, 1]) - 1, first_units, next_units - 1)
    columns = np.stack([first_units, last_units, firsts, afters - firsts], axis=1).tolist()
    return [UnitSpan(bounds[begin][0], bounds[end][1], first, count) for begin, end, first, count in columns]


def _owners(text: str, spans: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the unit of each token, [tokens], given the first character of each unit; units never decrease."""
    visible = np.flatnonzero(~np.isin(np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32), _WHITESPACE))
    if not len(visible):
        return np.zeros(len(spans), dtype=np.int64)
    at = np.searchsorted(visible, spans[:, 0])
    first = visible[np.minimum(at, len(visible) - 1)]  # the first character that is not whitespace
    has_text = (at < len(visible)) & (first < spans[:, 1])
    owners = np.where(has_text, np.searchsorted(starts, first, side="right") - 1, len(starts))
    owners = np.minimum.accumulate(owners[::-1])[::-1]  # whitespace takes the unit of the next token with a text
    return np.minimum(owners, owners[has_text][-1] if has_text.any() else 0)


def _words(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _WORD.finditer(text))


def _lines(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _LINE.finditer(text) if not match[0].isspace())


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    ends = [end for match in _TERMINATOR.finditer(text) if _ends_sentence(text, match[0], end := match.end())]
    ends += [match.start() for match in _EMPTY_LINE.finditer(text)]
    start = 0
    for end in [*sorted(ends), len(text)]:
        sentence = text[start:end]
        if stripped := sentence.strip():
            begin = start + sentence.index(stripped[0])
            yield begin, begin + len(stripped)
        start = end


def _ends_sentence(text: str, terminator: str, end: int) -> bool:
    if terminator[0] in _WIDE or end == len(text):
        return True
    if not text[end].isspace():
        return False
    following = _WORD.search(text, end)
    return terminator[0] not in ".…" or following is None or not text[following.start()].islower()


def _whole(text: str) -> Iterator[tuple[int, int]]:
    yield 0, len(text)


_BOUNDS = {"word": _words, "sentence": _sentences, "line": _lines, "text": _whole}
