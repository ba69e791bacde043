"""From ids to pieces of text, as they come; the text is cut before the first stop string."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

from max_gpt2.serve.front.token_text import TokenText


@dataclass(frozen=True)
class Written:
    """A piece of text that is final, and the places (in the whole text) of the tokens that begin within it."""

    piece: str
    offsets: list[int]


class GrowingText:
    """Holds back what may still change: a character that is not complete, and what may be the start of a stop string.

    `stopped` says that a stop string was found. The tokens that begin after the cut are not counted in `offsets`.
    """

    def __init__(self, texts: TokenText, stop: Sequence[str] = ()) -> None:
        """Start with no text."""
        self.stopped = False
        self._texts = texts
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""  # known, but not shown yet
        self._shown = 0
        self._offsets: list[int] = []

    def add(self, ids: Sequence[int], *, special: bool = False) -> Written:
        """Take ids and return what is final now."""
        for id_ in ids:
            self._offsets.append(self._shown + len(self._held))
            self._held += self._decoder.decode(self._texts.raw(id_, special=special))
        return self._release(final=False)

    def end(self) -> Written:
        """Return what was held back, now that nothing follows."""
        if not self.stopped:
            self._held += self._decoder.decode(b"", final=True)
        return self._release(final=True)

    def _release(self, *, final: bool) -> Written:
        if self.stopped:
            return Written("", [])
        places = [place for one in self._stop if (place := self._held.find(one)) >= 0]
        if places:
            self.stopped = True
            return self._show(min(places), all_tokens=False)
        keep = 0 if final else max((_overlap(self._held, one) for one in self._stop), default=0)
        return self._show(len(self._held) - keep, all_tokens=final)

    def _show(self, size: int, *, all_tokens: bool) -> Written:
        piece, self._held = self._held[:size], self._held[size:]
        self._shown += size
        count = sum(offset < self._shown for offset in self._offsets)
        if all_tokens:
            count = len(self._offsets)
        offsets, self._offsets = self._offsets[:count], self._offsets[count:]
        return Written(piece, offsets)


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of a text are the start of a stop string."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
