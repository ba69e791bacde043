"""Tokens with their text, and the characters of the original string that each of them covers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from max_gpt2.errors import RequestError
from max_gpt2.generation import encode_text
from max_gpt2.generation.params import check_ids
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.tokenizer.detokenizer import TokenTable

#: Bytes that are decoded at once; small, so that the work for each invalid byte is small.
_DECODED_AT_ONCE = 256


@dataclass(frozen=True)
class TokenizedText:
    """A text with its token ids.

    Attributes:
        text: The original string, or the decoded ids.
        ids: The token ids.
        spans: The first character of each token and the one after its last: [tokens, 2] of int64. Tokens that are parts
            of one character all span that character.

    """

    text: str
    ids: list[int]
    spans: np.ndarray


def tokenize(tokenizer: GPT2Tokenizer, vocab_size: int, source: str | Sequence[int]) -> TokenizedText:
    """Encode a text, or decode token ids, and locate each token in the text.

    Warns about characters that the tokenizer does not know. Raises RequestError for invalid Unicode and for ids that
    are not below `vocab_size`.
    """
    if isinstance(source, str):
        ids = encode_text(tokenizer, source)
        return TokenizedText(source, ids, _spans_in(tokenizer, source, ids))
    ids = [_as_id(id_) for id_ in source]
    check_ids(ids, vocab_size, "id")
    if not tokenizer.is_byte_level:
        return _decoded(tokenizer, ids)
    raw = b"".join(map(tokenizer.token_bytes, ids))
    return TokenizedText(raw.decode(errors="replace"), ids, _spans_of_bytes(tokenizer, ids, _character_starts(raw)))


def token_text(tokenizer: GPT2Tokenizer, id_: int) -> str:
    r"""Return the text of a token; bytes that are not valid UTF-8 are escaped, as in `\xe2\x80`."""
    return tokenizer.token_bytes(id_).decode(errors="backslashreplace")


def _as_id(id_: int) -> int:
    try:
        return id_.__index__()
    except AttributeError as error:
        raise RequestError(f"The id {id_!r} is not an integer. Give a string, or a sequence of token ids.") from error


def _spans_in(tokenizer: GPT2Tokenizer, text: str, ids: list[int]) -> np.ndarray:
    """Return the spans of an encoded text: from the bytes of its tokens if they are those of the text."""
    raw = text.encode()
    if tokenizer.is_byte_level:
        encoded = b"".join(map(tokenizer.token_bytes, ids))
        if encoded == raw:
            return _spans_of_bytes(tokenizer, ids, _starts_of_valid(raw))
        if encoded == b" " + raw:  # the tokenizer adds a space
            return np.maximum(_spans_of_bytes(tokenizer, ids, _starts_of_valid(encoded)) - 1, 0)
    return np.array(tokenizer.offsets(text), dtype=np.int64).reshape(len(ids), 2)


def _spans_of_bytes(tokenizer: GPT2Tokenizer, ids: Sequence[int], starts: np.ndarray) -> np.ndarray:
    """Return spans, [tokens, 2], given which bytes start a character, [bytes] of bool."""
    lengths = np.array([len(tokenizer.token_bytes(id_)) for id_ in ids], dtype=np.int64)
    ends = np.cumsum(lengths)
    begun = np.concatenate([[0], np.cumsum(starts)])  # the number of characters that start before each byte
    first = begun[np.minimum(ends - lengths + 1, len(starts))] - 1  # the character of a token's first byte
    last = begun[ends]
    empty = lengths == 0  # before a character, or before the one that it divides
    divides = np.append(~starts, False)[ends]
    first[empty] = last[empty] = (last - divides)[empty]
    return np.stack([first, last], axis=1)


def _starts_of_valid(raw: bytes) -> np.ndarray:
    """Return which bytes of valid UTF-8 start a character: [bytes] of bool."""
    return (np.frombuffer(raw, dtype=np.uint8) & 0xC0) != 0x80


def _character_starts(raw: bytes) -> np.ndarray:
    """Return which bytes start a character once invalid ones are decoded to U+FFFD: [bytes] of bool."""
    starts = _starts_of_valid(raw)
    at = 0
    while at < len(raw):
        part = raw[at : at + _DECODED_AT_ONCE]
        try:
            part.decode()
            at += len(part)
        except UnicodeDecodeError as error:
            # The error can be the end of the part within a character; decoding continues at its start then.
            if error.start == 0 or error.end < len(part):
                starts[at + error.start] = True  # one U+FFFD replaces it and the continuation bytes that follow
                at += error.end
            else:
                at += error.start
    return starts


def _decoded(tokenizer: GPT2Tokenizer, ids: list[int]) -> TokenizedText:
    """Decode ids of a tokenizer that is not byte-level, token by token."""
    decoder = TokenTable(tokenizer).decoder(special=True)
    pieces, spans = [""], np.zeros((len(ids), 2), dtype=np.int64)
    length, first = 0, 0  # of the text so far; the first token whose text is not complete
    for at in range(len(ids) + 1):
        piece = decoder.add(ids[at]) if at < len(ids) else decoder.end()
        if piece:
            spans[first : at + 1] = length, length + len(piece)
            pieces.append(piece)
            length, first = length + len(piece), at + 1
    spans[first:] = length
    return TokenizedText("".join(pieces), ids, spans)
