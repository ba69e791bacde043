"""GPT-2's byte-level BPE tokenizer, based on the `tokenizers` library."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models
from tokenizers.decoders import ByteLevel
from tokenizers.pre_tokenizers import ByteLevel as PreByteLevel

from max_gpt2.errors import RequestError, TokenizerError
from max_gpt2.tokenizer.added_tokens import token_entry
from max_gpt2.tokenizer.byte_level import BYTE_LETTERS, END_OF_TEXT, byte_level_content
from max_gpt2.tokenizer.folder import UnsupportedTokenizerError, check_content, read_folder, slow_files


class GPT2Tokenizer:
    """A byte-level BPE tokenizer. Special tokens in a text, such as `<|endoftext|>`, are encoded as plain text.

    Attributes:
        json: The content of its `tokenizer.json`.
        folder: The folder that it was loaded from, or None.
        special_tokens: The special tokens by role, such as `bos_token`, as its folder names them.
        vocab_size: The vocabulary size of the model, or None. Added tokens with larger ids are never used.
        bos_token_id: The id that an empty prompt starts with, or None for `<|endoftext|>`.

    """

    def __init__(self, text: str, folder: Path | None = None, special_tokens: Mapping[str, str] | None = None) -> None:
        """Create a tokenizer from the content of a `tokenizer.json`; `from_folder` loads one from a checkpoint."""
        self.json = text
        self.folder = folder
        self.special_tokens = dict(special_tokens or {})
        self.vocab_size: int | None = None
        self.bos_token_id: int | None = None
        self._bytes: dict[int, bytes] = {}
        self._invented: frozenset[int | None] = frozenset()  # ids of tokens that the model never saw
        self._added_tokens = check_content(text).get("added_tokens") or []
        self._tokenizer = Tokenizer.from_str(text)
        self._tokenizer.encode_special_tokens = True
        # The file can contain padding and truncation settings from training.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    @classmethod
    def from_folder(cls, folder: Path, vocab_size: int) -> "GPT2Tokenizer":
        """Load the tokenizer of a folder, with the ids of transformers' AutoTokenizer (`max_gpt2.tokenizer.folder`).

        Raises TokenizerError when there is none, when a file is damaged, when it cannot be reproduced, or when an id is
        not below `vocab_size`.
        """
        source = _main_file(folder)
        try:
            found = read_folder(folder)
            tokenizer = cls(found.json, folder, found.special_tokens)
            tokenizer._invented = frozenset(map(tokenizer._tokenizer.token_to_id, found.invented))
        except UnsupportedTokenizerError as error:
            raise TokenizerError(str(error)) from error
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
        tokens = {token: AddedToken(token, normalized=False) for token in added}
        tokens |= {token: AddedToken(token, special=True) for token in (END_OF_TEXT, *special)}
        entries = [token_entry(vocab[name], token) for name, token in tokens.items() if name in vocab]
        try:
            content = byte_level_content(vocab, merges)
            content["added_tokens"] = sorted(entries, key=lambda entry: entry["id"])
            tokenizer = cls(json.dumps(content, ensure_ascii=False, indent=2))
        except Exception as error:  # as above
            raise TokenizerError(f"{source} is damaged ({error}). Download the file again.") from error
        tokenizer._check(vocab_size, source)
        return tokenizer

    @property
    def vocab(self) -> dict[str, int]:
        """The ids of all tokens of the model, including added tokens."""
        vocab = self._tokenizer.get_vocab()
        return {token: id_ for token, id_ in vocab.items() if self._is_known(id_)}

    @cached_property
    def size(self) -> int:
        """The largest id plus one; at most the model's `vocab_size`."""
        return max(self.vocab.values()) + 1

    @property
    def end_of_text(self) -> int:
        """The id of `<|endoftext|>`; raises TokenizerError when there is none."""
        id_ = self._tokenizer.token_to_id(END_OF_TEXT)
        if id_ is None or not self._is_known(id_):
            raise TokenizerError(f"This tokenizer has no {END_OF_TEXT} to start a sequence with. Give a prompt.")
        return id_

    @property
    def start_id(self) -> int:
        """The id of an empty prompt; raises TokenizerError when there is none."""
        return self.end_of_text if self.bos_token_id is None else self.bos_token_id

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text; special tokens in it are plain text.

        Raises RequestError when it is not valid Unicode, when it contains an added token that the model does not have,
        or when the tokenizer knows nothing of it. `unknown_text` returns what was dropped from a text.
        """
        return self._encode(self._tokenizer, text, template=False)

    def encode_special(self, text: str, *, template: bool = True) -> list[int]:
        """Return the token ids that transformers' `encode` returns: special tokens in the text are their ids.

        With `template`, the tokenizer's post-processor adds its tokens, such as a BOS. Raises RequestError as `encode`.
        """
        return self._encode(self._special_tokenizer, text, template)

    def _encode(self, tokenizer: Tokenizer, text: str, template: bool) -> list[int]:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RequestError(f"The text is not valid Unicode at position {error.start}. Correct it.") from error
        # Unlike `encode`, `encode_batch` releases the GIL: a server encodes a long text beside its event loop.
        ids = tokenizer.encode_batch([text], add_special_tokens=template)[0].ids
        if (unknown := next((id_ for id_ in ids if not self._is_known(id_)), None)) is not None:
            raise RequestError(
                f"The text contains {self.token(unknown)!r}, an added token with the id {unknown}, but the model's "
                f"vocabulary has {self.vocab_size} ids. Remove it."
            )
        if text and not ids:
            raise RequestError(
                f"The text {_shortened(text)} encodes to nothing: this tokenizer knows none of its characters. "
                "Use another text or another tokenizer."
            )
        return ids

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the first character of each token of `encode(text)` in the text, and the one after its last."""
        return self._tokenizer.encode_batch([text], add_special_tokens=False)[0].offsets

    @cached_property
    def _special_tokenizer(self) -> Tokenizer:
        """The same tokenizer, but it finds special tokens in a text."""
        tokenizer = Tokenizer.from_str(self.json)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def unknown_text(self, text: str) -> str:
        """Return the distinct characters of a text that are dropped or replaced by the unknown token, but no spaces."""
        if self._is_complete:
            return ""
        if isinstance(self._tokenizer.model, models.BPE):
            for token in self._added_tokens:
                text = text.replace(token["content"], "")
            lost = [letter for letter in dict.fromkeys(text) if not self._is_encoded(letter)]
        else:  # words: the offsets of a BPE do not count the characters that it drops
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
            spans = [span for id_, span in zip(encoding.ids, encoding.offsets, strict=True) if id_ == self._unknown_id]
            lost = [letter for start, end in spans for letter in text[start:end]]
        return "".join(letter for letter in dict.fromkeys(lost) if letter.isprintable() and letter != " ")

    def _is_encoded(self, letter: str) -> bool:
        ids = self._tokenizer.encode(letter, add_special_tokens=False).ids
        complete = not self.is_byte_level or letter in self.decode(ids)
        return bool(ids) and self._unknown_id not in ids and complete

    @cached_property
    def _unknown_id(self) -> int | None:
        token = getattr(self._tokenizer.model, "unk_token", None)
        return None if token is None else self._tokenizer.token_to_id(token)

    @cached_property
    def _is_complete(self) -> bool:
        """True if the tokenizer has a token for every byte, so that it encodes every text."""
        is_byte_level = isinstance(self._tokenizer.pre_tokenizer, PreByteLevel)
        return is_byte_level and BYTE_LETTERS.keys() <= self._tokenizer.get_vocab(with_added_tokens=False).keys()

    def _is_known(self, id_: int) -> bool:
        return id_ not in self._invented and (self.vocab_size is None or id_ < self.vocab_size)

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Return the text of ids; bytes that are not valid UTF-8 become U+FFFD.

        Special tokens such as `<|endoftext|>` are left out unless `special` is true.
        """
        if not self.is_byte_level:
            return self._tokenizer.decode(list(ids), skip_special_tokens=not special)
        # The library reads letters beyond ASCII in added tokens as bytes: "café" becomes "caf" and U+FFFD.
        hidden = frozenset() if special else self.special_ids
        return b"".join(self.token_bytes(id_) for id_ in ids if id_ not in hidden).decode(errors="replace")

    def token_bytes(self, id_: int) -> bytes:
        """Return the bytes of a token: of the letters of a byte-level BPE, or of the text of an added token.

        An unknown id has no bytes. The tokens of other tokenizers are those of the text that their decoder writes.
        """
        if id_ not in self._bytes:
            token = self.token(id_) or ""
            if not self.is_byte_level:
                self._bytes[id_] = self._decoded_bytes(id_, token)
            elif id_ not in self._added_texts and BYTE_LETTERS.keys() >= set(token):
                self._bytes[id_] = bytes(BYTE_LETTERS[letter] for letter in token)
            else:
                self._bytes[id_] = token.encode()
        return self._bytes[id_]

    def _decoded_bytes(self, id_: int, token: str) -> bytes:
        """Return the bytes of a token within a text: at its start, decoders such as Metaspace drop a space."""
        if (byte := re.fullmatch("<0x([0-9A-F]{2})>", token)) and self.decode([id_], special=True) != token:
            return bytes.fromhex(byte[1])
        before = self.decode(self._any_word, special=True)
        text = self.decode([*self._any_word, id_], special=True)
        return text.removeprefix(before).encode() if text.startswith(before) else token.encode()

    @cached_property
    def _any_word(self) -> list[int]:
        """One id with a text that is not a space, or no id if there is none."""
        ids = sorted(self.vocab.values())
        return next(([id_] for id_ in ids if self.decode([id_]).strip() and "\ufffd" not in self.decode([id_])), [])

    @cached_property
    def _added_texts(self) -> frozenset[int]:
        """The ids of added tokens that are not in the vocabulary of the BPE, which would spell them in its alphabet."""
        spelled = self._tokenizer.get_vocab(with_added_tokens=False)
        added = self._tokenizer.get_added_tokens_decoder()
        return frozenset(id_ for id_, token in added.items() if token.content not in spelled)

    def token(self, id_: int) -> str | None:
        """Return a token as the vocabulary spells it; None for an unknown id."""
        return self._tokenizer.id_to_token(id_)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The ids of the special tokens."""
        added = self._tokenizer.get_added_tokens_decoder()
        return frozenset(id_ for id_, token in added.items() if token.special)

    def special_token_ids(self, texts: Iterable[str]) -> list[int]:
        """Return the ids of those texts that are special tokens of the model, such as `<|endoftext|>`."""
        ids = map(self._tokenizer.token_to_id, texts)
        return [id_ for id_ in ids if id_ is not None and id_ in self.special_ids and self._is_known(id_)]

    @cached_property
    def is_byte_level(self) -> bool:
        """True if tokens are byte strings in GPT-2's alphabet."""
        return isinstance(self._tokenizer.decoder, ByteLevel)

    def _check(self, vocab_size: int, source: str) -> None:
        """Raise TokenizerError for a vocabulary beyond `vocab_size`, and for added tokens with other ids than declared.

        Added tokens beyond it are allowed: fine-tunes often have a padding token that the model was never given.
        """
        by_id = sorted(self._tokenizer.get_vocab(with_added_tokens=False).items(), key=lambda item: item[1])
        beyond = [f"{token!r} = {id_}" for token, id_ in by_id if id_ >= vocab_size]
        if beyond:
            raise TokenizerError(
                f"{source} has {len(beyond)} ids beyond the model's vocabulary of {vocab_size}, such as {beyond[0]}. "
                "Use the tokenizer that belongs to this checkpoint."
            )
        self.vocab_size = vocab_size
        for token in self._added_tokens:
            # The library assigns the next free id to an added token and ignores the id in the file.
            if (id_ := self._tokenizer.token_to_id(token["content"])) != token["id"]:
                raise TokenizerError(
                    f"{source} gives the added token {token['content']!r} the id {token['id']}, but it would get "
                    f"{id_}: ids of added tokens must follow the vocabulary without a gap. Use another tokenizer."
                )


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]} ...")


def _main_file(folder: Path) -> Path:
    """Return the file with the vocabulary of a folder; raises TokenizerError when there is none."""
    if (single := folder / "tokenizer.json").is_file():
        return single
    if pair := slow_files(folder):
        return pair[0]
    if (words := folder / "vocab.txt").is_file():
        return words
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
