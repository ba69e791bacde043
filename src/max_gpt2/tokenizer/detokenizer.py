"""Incremental detokenization: turn token ids into text that does not change any more.

Text is held back while it can still change: the bytes of an incomplete character, and a suffix that may be the start of
a stop string. The work for a token does not depend on how many came before it.
"""

import codecs
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from max_gpt2.errors import RequestError
from max_gpt2.tokenizer.byte_level import BYTE_LETTERS
from max_gpt2.tokenizer.tokenizer import GPT2Tokenizer

#: The replacement character, to which the bytes of an incomplete character decode.
_INCOMPLETE = "\ufffd"
#: `WindowDecoder` returns text after this many ids even if it ends with U+FFFD: a character has at most 4 bytes.
_MAX_PENDING = 8


class TokenTable:
    """The bytes and the printable name of each token of a tokenizer; an unknown id has no bytes."""

    def __init__(self, tokenizer: GPT2Tokenizer) -> None:
        """Create a table that is filled as tokens are used."""
        self._tokenizer = tokenizer
        self._bytes: dict[int, bytes] = {}

    @cached_property
    def longest(self) -> int:
        """Return the largest number of bytes of a token."""
        return max((len(self.raw(id_, special=True)) for id_ in self._tokenizer.vocab.values()), default=1)

    def raw(self, id_: int, *, special: bool = False) -> bytes:
        """Return a token's bytes; special tokens such as `<|endoftext|>` have none unless `special` is true."""
        if id_ in self._tokenizer.special_ids and not special:
            return b""
        if id_ not in self._bytes:
            token = self._tokenizer.token(id_) or ""
            known = all(letter in BYTE_LETTERS for letter in token)
            self._bytes[id_] = bytes(BYTE_LETTERS[letter] for letter in token) if known else token.encode()
        return self._bytes[id_]

    def text(self, ids: Iterable[int], *, special: bool = False) -> str:
        """Return the text of ids; bytes that are not valid UTF-8 become U+FFFD."""
        decoder = self.decoder(special=special)
        return "".join(map(decoder.add, ids)) + decoder.end()

    def name(self, id_: int) -> str:
        r"""Return the name of a token in `logprobs`: its text, or `bytes:\xe2\x80` if that is not valid UTF-8."""
        raw = self.raw(id_, special=True)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)

    def decoder(self, *, special: bool = False) -> "ByteDecoder | WindowDecoder":
        """Return a decoder for one sequence; special tokens are part of its text if `special` is true."""
        if self._tokenizer.is_byte_level:
            return ByteDecoder(self, special=special)
        return WindowDecoder(lambda ids: self._tokenizer.decode(ids, special=special))


class ByteDecoder:
    """A decoder for byte-level BPE: the bytes of the tokens are UTF-8, and a character may span tokens."""

    def __init__(self, tokens: TokenTable, *, special: bool) -> None:
        """Start with no ids."""
        self._tokens = tokens
        self._special = special
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, id_: int) -> str:
        """Append an id and return the characters that are complete now."""
        return self._decoder.decode(self._tokens.raw(id_, special=self._special))

    def end(self) -> str:
        """Return U+FFFD for an incomplete character at the end."""
        return self._decoder.decode(b"", final=True)


class WindowDecoder:
    """A decoder for any tokenizer: for each token, it decodes a window of the last ids with the tokenizer."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        """Start with no ids."""
        self._decode = decode
        self._ids: list[int] = []
        self._read = 0  # the number of ids already returned as text; they are the context of the rest

    def add(self, id_: int) -> str:
        """Append an id and return the text that is complete now."""
        self._ids.append(id_)
        return self._next(final=len(self._ids) - self._read >= _MAX_PENDING)

    def end(self) -> str:
        """Return the text of an incomplete character at the end."""
        return self._next(final=True)

    def _next(self, *, final: bool) -> str:
        before, text = self._decode(self._ids[: self._read]), self._decode(self._ids)
        if not final and (len(text) <= len(before) or text.endswith(_INCOMPLETE)):
            return ""
        self._ids = self._ids[self._read :]
        self._read = len(self._ids)
        return text[len(before) :]


@dataclass(frozen=True)
class TextDelta:
    """Text that became final, and the offsets (in the whole text) of the tokens that start within it."""

    text: str
    offsets: list[int]


class Detokenizer:
    """An incremental detokenizer for one sequence, with stop strings.

    The text is cut before the first stop string, even if that spans several tokens; `stopped` is true from then on.
    Tokens that start after the cut get no offset.
    """

    def __init__(self, tokens: TokenTable, stop: Sequence[str] = (), *, special: bool = False) -> None:
        """Start with an empty text; raises RequestError for an empty stop string.

        Special tokens such as `<|endoftext|>` are part of the text if `special` is true.
        """
        check_stop(stop)
        self.stopped = False
        self._stop = tuple(stop)
        self._decoder = tokens.decoder(special=special)
        self._held = ""  # decoded, not yet final
        self._length = 0  # of the final text
        self._offsets: list[int] = []  # of tokens that start in the held text

    def add(self, ids: Sequence[int]) -> TextDelta:
        """Append ids and return the text that became final, which may be empty."""
        for id_ in ids:
            self._offsets.append(self._length + len(self._held))
            self._held += self._decoder.add(id_)
        return self._release(final=False)

    def end(self) -> TextDelta:
        """Return the text that was held back; no ids may follow."""
        if not self.stopped:
            self._held += self._decoder.end()
        return self._release(final=True)

    def _release(self, *, final: bool) -> TextDelta:
        if self.stopped:
            return TextDelta("", [])
        if found := [index for one in self._stop if (index := self._held.find(one)) >= 0]:
            self.stopped = True
            return self._take(min(found), all_tokens=False)
        held = 0 if final else max((_overlap(self._held, one) for one in self._stop), default=0)
        return self._take(len(self._held) - held, all_tokens=final)

    def _take(self, size: int, *, all_tokens: bool) -> TextDelta:
        text, self._held = self._held[:size], self._held[size:]
        self._length += size
        count = len(self._offsets) if all_tokens else sum(offset < self._length for offset in self._offsets)
        offsets, self._offsets = self._offsets[:count], self._offsets[count:]
        return TextDelta(text, offsets)


def check_stop(stop: Sequence[str]) -> None:
    """Raise RequestError for an empty stop string, which would stop every sequence at its start."""
    if not all(stop):
        raise RequestError("A stop string is empty. Remove it.")


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest proper prefix of `stop` that `text` ends with."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
