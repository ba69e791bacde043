"""The bytes of each token, and its name in `logprobs`, as OpenAI writes them."""

from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from max_gpt2.tokenizer import GPT2Tokenizer


def _bytes_of_characters() -> dict[str, int]:
    """Return GPT-2's alphabet: printable bytes stand for themselves, the others for characters from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    table = {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}
    assert table.keys() == set(ByteLevel.alphabet())
    return table


class TokenText:
    """What a tokenizer's ids stand for, id by id; an id without a token is no bytes."""

    def __init__(self, tokenizer: GPT2Tokenizer) -> None:
        """Take the tokens from a tokenizer."""
        library = Tokenizer.from_str(tokenizer.json)
        self._special = {id_ for id_, token in library.get_added_tokens_decoder().items() if token.special}
        letters = _bytes_of_characters()
        self._bytes: dict[int, bytes] = {}
        for token, id_ in tokenizer.vocab.items():
            known = all(one in letters for one in token)
            self._bytes[id_] = bytes(letters[one] for one in token) if known else token.encode()
        self.longest = max(map(len, self._bytes.values()), default=1)

    def raw(self, id_: int, *, special: bool = False) -> bytes:
        """Return a token's bytes; those of a special token, such as `<|endoftext|>`, only when asked for."""
        return b"" if id_ in self._special and not special else self._bytes.get(id_, b"")

    def text(self, ids: Iterable[int], *, special: bool = False) -> str:
        """Return the text of ids; bytes that are not valid UTF-8 become U+FFFD."""
        return b"".join(self.raw(id_, special=special) for id_ in ids).decode(errors="replace")

    def name(self, id_: int) -> str:
        r"""Return a token as `logprobs` names it: its text, or `bytes:\xe2\x80` when it is a part of a character."""
        raw = self.raw(id_, special=True)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
