"""Find stop strings in a text that arrives in parts, in time that is linear in the text."""

from collections.abc import Sequence

from max_gpt2.errors import RequestError


class StopMatcher:
    """The Knuth-Morris-Pratt matcher of each stop string.

    The time does not depend on the length of a stop string: the table of a string is computed as far as it matches.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        """Start with an empty text; raises RequestError for an empty stop string."""
        check_stop(stop)
        self._patterns = [_Pattern(one) for one in stop]
        self._length = 0

    def add(self, text: str) -> int | None:
        """Append a part of the text; return where in the text the first match in it starts, or None."""
        found = [end - len(one.text) for one in self._patterns if (end := one.advance(text)) is not None]
        start = self._length + min(found) if found else None
        self._length += len(text)
        return start

    @property
    def partial(self) -> int:
        """The length of the longest suffix of the text that may be the start of a stop string."""
        return max((one.matched for one in self._patterns), default=0)


class _Pattern:
    """A stop string, and the length of the longest prefix of it that the text ends with."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0
        self._borders = [0]  # for each prefix, its longest proper prefix that it also ends with

    def advance(self, text: str) -> int | None:
        """Match a part of the text; return the index after the first match in it, or None."""
        index = 0
        while index < len(text):
            if not self.matched:
                index = text.find(self.text[0], index)
                if index < 0:
                    return None
            while self.matched and self.text[self.matched] != text[index]:
                self.matched = self._borders[self.matched - 1]
            if self.text[self.matched] == text[index]:
                self.matched += 1
            index += 1
            if self.matched == len(self.text):
                return index
            if self.matched > len(self._borders):
                self._extend()
        return None

    def _extend(self) -> None:
        """Compute the border of the next prefix."""
        letter, border = self.text[len(self._borders)], self._borders[-1]
        while border and self.text[border] != letter:
            border = self._borders[border - 1]
        self._borders.append(border + (self.text[border] == letter))


def check_stop(stop: Sequence[str]) -> None:
    """Raise RequestError for an empty stop string, which would stop every sequence at its start."""
    if not all(stop):
        raise RequestError("A stop string is empty. Remove it.")
