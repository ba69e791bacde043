"""Incremental detokenization: turn token ids into text that does not change any more.

Text is held back while it can still change: the bytes of an incomplete character, and a suffix that may be the start of
a stop string. The work for a token does not depend on how many came before it.
"""

import codecs
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from max_gpt2.tokenizer.stop_strings import StopMatcher
from max_gpt2.tokenizer.tokenizer import GPT2Tokenizer

#: The replacement character, to which the bytes of an incomplete character decode.
_INCOMPLETE = "\ufffd"
#: `WindowDecoder` returns text after this many ids even if it ends with U+FFFD: a character has at most 4 bytes.
_MAX_PENDING = 8


class TokenTable:
    """The bytes and the printable name of each token of a tokenizer; an unknown id has no bytes."""

    def __init__(self, tokenizer: GPT2Tokenizer) -> None:
        """Create the table of a tokenizer."""
        self._tokenizer = tokenizer

    @cached_property
    def longest(self) -> int:
        """Return the largest number of bytes of a token."""
        return max((len(self.raw(id_, special=True)) for id_ in self._tokenizer.vocab.values()), default=1)

    def raw(self, id_: int, *, special: bool = False) -> bytes:
        """Return a token's bytes; special tokens such as `<|endoftext|>` have none unless `special` is true."""
        if id_ in self._tokenizer.special_ids and not special:
            return b""
        return self._tokenizer.token_bytes(id_)

    def special_ids(self, texts: Iterable[str]) -> frozenset[int]:
        """Return the ids of those texts that are special tokens."""
        return frozenset(self._tokenizer.special_token_ids(texts))

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


@dataclass
class TextDelta:
    """Text that became final, and the offsets (in the whole text) of the tokens that start within it."""

    text: str
    offsets: list[int]

    def join(self, other: "TextDelta") -> None:
        """Append the delta that follows."""
        self.text += other.text
        self.offsets += other.offsets


class Detokenizer:
    """An incremental detokenizer for one sequence, with stop strings.

    The text is cut before the first stop string, even if that spans several tokens, and at a special token that is
    spelled like a stop string; `stopped` is true from then on.
    Tokens that start after the cut get no offset. `tokens` is the number of tokens up to and including the one that
    completes the stop string; later tokens are ignored, so that the result does not depend on how tokens are grouped.
    """

    def __init__(
        self, tokens: TokenTable, stop: Sequence[str] = (), *, stop_ids: Iterable[int] = (), special: bool = False
    ) -> None:
        """Start with an empty text; raises RequestError for an empty stop string. `stop_ids` also end the text.

        Special tokens such as `<|endoftext|>` are part of the text if `special` is true.
        """
        self.stopped = False
        self.tokens = 0
        self._stop = StopMatcher(stop)
        self._stop_ids = tokens.special_ids(stop).union(stop_ids)
        self._decoder = tokens.decoder(special=special)
        self._held = ""  # decoded, not yet final
        self._length = 0  # of the final text
        self._offsets: list[int] = []  # of tokens that start in the held text

    def add(self, ids: Sequence[int]) -> TextDelta:
        """Append ids and return the text that became final, which may be empty."""
        delta = TextDelta("", [])
        for id_ in ids:
            if self.stopped:
                break
            self.tokens += 1
            if id_ in self._stop_ids:
                delta.join(self.end())
                self.stopped = True
                break
            self._offsets.append(self._length + len(self._held))
            delta.join(self._append(self._decoder.add(id_), final=False))
        return delta

    def end(self) -> TextDelta:
        """Return the text that was held back; no ids may follow."""
        return TextDelta("", []) if self.stopped else self._append(self._decoder.end(), final=True)

    def _append(self, text: str, *, final: bool) -> TextDelta:
        self._held += text
        if (start := self._stop.add(text)) is not None:
            self.stopped = True
            return self._release(start - self._length, all_tokens=False)
        held = 0 if final else self._stop.partial
        return self._release(len(self._held) - held, all_tokens=final)

    def _release(self, size: int, *, all_tokens: bool) -> TextDelta:
        """Return the first `size` characters of the held text, with the offsets of the tokens that start in them."""
        text, self._held = self._held[:size], self._held[size:]
        self._length += size
        count = len(self._offsets) if all_tokens else bisect_left(self._offsets, self._length)
        offsets, self._offsets = self._offsets[:count], self._offsets[count:]
        return TextDelta(text, offsets)
