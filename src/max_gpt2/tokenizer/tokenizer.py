"""GPT-2's byte-level BPE tokenizer, based on the `tokenizers` library."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel

from max_gpt2.errors import RequestError, TokenizerError
from max_gpt2.tokenizer.legacy import END_OF_TEXT, added_tokens, byte_level_json, slow_tokenizer_json


class GPT2Tokenizer:
    """A byte-level BPE tokenizer. Special tokens in a text, such as `<|endoftext|>`, are encoded as plain text.

    Attributes:
        json: The content of its `tokenizer.json`.
        folder: The folder that it was loaded from, or None.

    """

    def __init__(self, text: str, folder: Path | None = None) -> None:
        """Create a tokenizer from the content of a `tokenizer.json`; `from_folder` loads one from a checkpoint."""
        self.json = text
        self.folder = folder
        self._added_tokens = added_tokens(text)
        self._tokenizer = Tokenizer.from_str(text)
        self._tokenizer.encode_special_tokens = True
        # The file can contain padding and truncation settings from training.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    @classmethod
    def from_folder(cls, folder: Path, vocab_size: int) -> "GPT2Tokenizer":
        """Load `tokenizer.json`, or else `vocab.json` with `merges.txt` and the files of added tokens.

        Raises TokenizerError when there is neither, when a file is damaged, or when an id is not below `vocab_size`.
        """
        single, vocab, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
        if not single.is_file() and not (vocab.is_file() and merges.is_file()):
            if (characters := folder / "meta.pkl").is_file():
                raise TokenizerError(
                    f"{folder} has no tokenizer but {characters.name}, a vocabulary of characters from nanoGPT's data "
                    "preparation, which is not supported. Write a tokenizer.json from its stoi with the tokenizers "
                    "library (WordLevel, splitting at every character), or give a folder that has one: --tokenizer "
                    "FOLDER."
                )
            raise TokenizerError(
                f"{folder} has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt. "
                "Copy the tokenizer of the original model into it, or give a folder that has one: --tokenizer FOLDER."
            )
        source = single if single.is_file() else vocab
        try:
            tokenizer = cls(single.read_bytes().decode() if source is single else slow_tokenizer_json(folder), folder)
        except Exception as error:  # the library raises plain Exception for every error
            raise TokenizerError(f"{source} is not a tokenizer ({error}). Download the file again.") from error
        tokenizer._check(vocab_size, str(source))
        return tokenizer

    @classmethod
    def from_vocab(
        cls,
        vocab: dict[str, int],
        merges: Sequence[Sequence[str]],
        vocab_size: int,
        source: str,
        special: Sequence[str] = (),
        added: Sequence[str] = (),
    ) -> "GPT2Tokenizer":
        """Create a tokenizer from a vocabulary and merges.

        `special` tokens are left out when decoding. `added` tokens are plain strings, not encoded bytes. Raises
        TokenizerError, which names `source`, as `from_folder` does.
        """
        tokens = {vocab[token]: AddedToken(token, normalized=False) for token in added if token in vocab}
        tokens |= {vocab[token]: AddedToken(token, special=True) for token in special if token in vocab}
        try:
            tokenizer = cls(byte_level_json(vocab, merges, tokens))
        except Exception as error:  # as above
            raise TokenizerError(f"{source} is damaged ({error}). Download the file again.") from error
        tokenizer._check(vocab_size, source)
        return tokenizer

    @property
    def vocab(self) -> dict[str, int]:
        """The ids of all tokens, including added tokens."""
        return self._tokenizer.get_vocab()

    @cached_property
    def size(self) -> int:
        """The largest id plus one; at most the model's `vocab_size`."""
        return max(self.vocab.values()) + 1

    @property
    def end_of_text(self) -> int:
        """The id of `<|endoftext|>`; raises TokenizerError when there is none."""
        id_ = self._tokenizer.token_to_id(END_OF_TEXT)
        if id_ is None:
            raise TokenizerError(f"This tokenizer has no {END_OF_TEXT} to start a sequence with. Give a prompt.")
        return id_

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text; raises RequestError when it is not valid Unicode."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RequestError(f"The text is not valid Unicode at position {error.start}. Correct it.") from error
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Return the text of ids; bytes that are not valid UTF-8 become U+FFFD.

        Special tokens such as `<|endoftext|>` are left out unless `special` is true.
        """
        return self._tokenizer.decode(list(ids), skip_special_tokens=not special)

    def token(self, id_: int) -> str | None:
        """Return a token as the vocabulary spells it; None for an unknown id."""
        return self._tokenizer.id_to_token(id_)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The ids of the special tokens."""
        added = self._tokenizer.get_added_tokens_decoder()
        return frozenset(id_ for id_, token in added.items() if token.special)

    @cached_property
    def is_byte_level(self) -> bool:
        """True if tokens are byte strings in GPT-2's alphabet."""
        return isinstance(self._tokenizer.decoder, ByteLevel)

    def _check(self, vocab_size: int, source: str) -> None:
        """Raise TokenizerError for ids beyond `vocab_size`, and for added tokens that the library gave other ids."""
        by_id = sorted(self.vocab.items(), key=lambda item: item[1])
        beyond = [f"{token!r} = {id_}" for token, id_ in by_id if id_ >= vocab_size]
        if beyond:
            raise TokenizerError(
                f"{source} has {len(beyond)} ids beyond the model's vocabulary of {vocab_size}, such as {beyond[0]}. "
                "Use the tokenizer that belongs to this checkpoint."
            )
        for token in self._added_tokens:
            # The library assigns the next free id to an added token and ignores the id in the file.
            if (id_ := self._tokenizer.token_to_id(token["content"])) != token["id"]:
                raise TokenizerError(
                    f"{source} gives the added token {token['content']!r} the id {token['id']}, but it would get "
                    f"{id_}: ids of added tokens must follow the vocabulary without a gap. Use another tokenizer."
                )
