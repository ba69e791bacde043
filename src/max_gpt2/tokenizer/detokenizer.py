"""From ids, one after the other, to pieces of text that can be shown at once."""

from collections.abc import Sequence

from max_gpt2.errors import RequestError
from max_gpt2.tokenizer import GPT2Tokenizer

_UNFINISHED = "\ufffd"  # what a character becomes of which some bytes are still missing


class TextStream:
    """Holds back what may still change: a character that is not complete, and what may be the start of a stop string.

    The text is cut before the first stop string, also when that spans several tokens; `stopped` says that it was.
    """

    def __init__(self, tokenizer: GPT2Tokenizer, stop: Sequence[str] = ()) -> None:
        """Start with no ids; raises RequestError for an empty stop string, before which every text would end."""
        if not all(stop):
            raise RequestError("A stop string is empty. Leave it out.")
        self.stopped = False
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._ids: list[int] = []
        self._shown = 0

    def add(self, id_: int) -> str:
        """Take an id and return the text that can be shown now, which may be empty."""
        self._ids.append(id_)
        text = self._tokenizer.decode(self._ids)
        places = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if places:
            self.stopped = True
            return self._show(text, min(places))
        sure = text.rstrip(_UNFINISHED)
        return self._show(text, len(sure) - max((_overlap(sure, stop) for stop in self._stop), default=0))

    def end(self) -> str:
        """Return what was held back, now that nothing follows."""
        text = self._tokenizer.decode(self._ids)
        return "" if self.stopped else self._show(text, len(text))

    def _show(self, text: str, end: int) -> str:
        piece = text[self._shown : end]
        self._shown = max(self._shown, end)
        return piece


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of a text are the start of a stop string."""
    return next((size for size in range(min(len(stop), len(text)), 0, -1) if text.endswith(stop[:size])), 0)
