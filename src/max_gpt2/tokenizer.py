"""GPT-2's byte-level BPE, by the `tokenizers` library."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from max_gpt2.errors import RequestError, TokenizerError

END_OF_TEXT = "<|endoftext|>"


class GPT2Tokenizer:
    """Text to ids and back. A special token that somebody types, such as `<|endoftext|>`, is encoded as plain text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Wrap a tokenizer of the `tokenizers` library; `from_folder` makes one from a checkpoint."""
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer

    @classmethod
    def from_folder(cls, folder: Path, vocab_size: int) -> "GPT2Tokenizer":
        """Read `tokenizer.json`, or else `vocab.json` with `merges.txt`.

        Raises TokenizerError when there is neither, when a file is broken, or when it has ids that a model of
        `vocab_size` tokens does not know.
        """
        single, vocab, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
        if not single.is_file() and not (vocab.is_file() and merges.is_file()):
            raise TokenizerError(
                f"{folder} has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt. "
                "Copy the tokenizer of the checkpoint that this one was made from into the folder, "
                "or name a folder that has it: --tokenizer FOLDER."
            )
        source = single if single.is_file() else vocab
        try:
            tokenizer = Tokenizer.from_file(str(single)) if single.is_file() else _from_vocab(vocab, merges)
        except Exception as error:  # the library raises plain Exception, for broken JSON and for a bad merge alike
            raise TokenizerError(f"{source} is not a tokenizer ({error}). Download the file again.") from error
        return cls(_within(tokenizer, vocab_size, str(source)))

    @classmethod
    def from_vocab(
        cls,
        vocab: dict[str, int],
        merges: list[tuple[str, ...]],
        vocab_size: int,
        source: str,
        special: Sequence[str] = (),
        added: Sequence[str] = (),
    ) -> "GPT2Tokenizer":
        """Make one from its parts; `special` tokens of the vocab are never written, `added` ones are no bytes' names.

        Raises TokenizerError, which names `source`, as `from_folder` does.
        """
        try:
            tokenizer = _byte_level(models.BPE(vocab, merges))
        except Exception as error:  # as above
            raise TokenizerError(f"{source} is damaged ({error}). Download the file again.") from error
        tokenizer.add_special_tokens([token for token in special if token in vocab])
        tokenizer.add_tokens([AddedToken(token, normalized=False) for token in added if token in vocab])
        return cls(_within(tokenizer, vocab_size, source))

    @property
    def size(self) -> int:
        """One more than the largest id, at most the model's vocabulary."""
        return max(self._tokenizer.get_vocab().values()) + 1

    @property
    def end_of_text(self) -> int:
        """The id of `<|endoftext|>`; raises TokenizerError when there is none."""
        id_ = self._tokenizer.token_to_id(END_OF_TEXT)
        if id_ is None:
            raise TokenizerError(f"This tokenizer has no {END_OF_TEXT} to start a text with. Give a prompt.")
        return id_

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; raises RequestError when it is not valid Unicode."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RequestError(f"The text is not valid Unicode at position {error.start}. Correct it.") from error
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, without special tokens; bytes that are not valid UTF-8 become U+FFFD."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)


def _from_vocab(vocab: Path, merges: Path) -> Tokenizer:
    return _byte_level(models.BPE.from_file(str(vocab), str(merges)))


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if tokenizer.token_to_id(END_OF_TEXT) is not None:
        tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def _within(tokenizer: Tokenizer, vocab_size: int, source: str) -> Tokenizer:
    """Return the tokenizer; raises TokenizerError when it has ids that a model of `vocab_size` tokens does not know."""
    beyond = [f"{token!r} = {id_}" for token, id_ in tokenizer.get_vocab().items() if id_ >= vocab_size]
    if beyond:
        raise TokenizerError(
            f"{source} has {len(beyond)} ids beyond the model's vocabulary of {vocab_size}, such as {beyond[0]}. "
            "Use the tokenizer that belongs to this checkpoint."
        )
    return tokenizer
