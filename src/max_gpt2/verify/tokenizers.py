"""Compare the tokenizer of a checkpoint with transformers' `AutoTokenizer`: ids and decoded texts of unusual texts."""

import importlib.util
from dataclasses import dataclass
from typing import Any

from max_gpt2.errors import RequestError
from max_gpt2.tokenizer import END_OF_TEXT, GPT2Tokenizer

#: Texts at which tokenizers differ: spaces, contractions, digits, accents, emoji, other scripts, special tokens.
CORPUS = (
    "It was the best of times, it was the worst of times.",
    " leading",
    "trailing ",
    "  two  spaces\n\n\tand\r\nlines ",
    "it's I'll WE'RE don't 's",
    "1984 3.14159 10,000,000 x2",
    "Ça va? naïve café Ångström Ǆ ﬁ",
    "e\u0301 decomposed, \u00e9 composed",
    "👩\u200d👩\u200d👧 🙂🙃 🏳️\u200d🌈",
    "你好 世界 こんにちは мир שלום",
    "\x00\x1f\x7f\u00a0\u2028\ufeff",
    "def f(x):\n    return {'a': [1, 2]}  # comment",
    f"a{END_OF_TEXT}b {END_OF_TEXT}",
    "CAPS lower MiXeD snake_case kebab-case",
)


@dataclass(frozen=True)
class TokenizerCheck:
    """The number of texts that were compared, and those with other ids or another decoded text in transformers."""

    texts: int
    ids_differ: list[str]
    decoded_differ: list[str]
    round_trips: int

    @property
    def passed(self) -> bool:
        """True if all ids and all decoded texts are equal."""
        return not self.ids_differ and not self.decoded_differ

    def describe(self) -> str:
        """Return the result as one sentence."""
        if self.passed:
            return (
                f"Tokenizer: ids and decoded texts of {self.texts} texts equal those of transformers; "
                f"{self.round_trips} of them decode to the same text."
            )
        first = (self.ids_differ + self.decoded_differ)[0]
        return (
            f"Tokenizer: NOT EQUAL to that of transformers: {len(self.ids_differ)} of {self.texts} texts have other "
            f"ids and {len(self.decoded_differ)} are decoded differently, such as {first!r}."
        )


def check_tokenizer(tokenizer: GPT2Tokenizer) -> TokenizerCheck | None:
    """Compare a tokenizer with the one that transformers loads from its folder.

    Return None without transformers, for a tokenizer that is not from a folder, and if transformers cannot load it.
    """
    if tokenizer.folder is None or importlib.util.find_spec("transformers") is None:
        return None
    theirs = _load(tokenizer)
    if theirs is None:
        return None
    added = [token for token in tokenizer.vocab if token in theirs.added_tokens_encoder]
    texts = [*CORPUS, *(f"a {token}b" for token in added[:100])]
    ids_differ, decoded_differ, round_trips = [], [], 0
    for text in texts:
        expected = theirs(text, add_special_tokens=False, split_special_tokens=True).input_ids
        try:
            ids = tokenizer.encode(text)
        except RequestError:  # it encodes to nothing, or to a token that the model does not have
            ids = expected
        if ids != expected:
            ids_differ.append(text)
        decoded = tokenizer.decode(ids, special=True)
        round_trips += decoded == text
        # transformers decodes letters beyond ASCII in added tokens as bytes; a lossless text is right in any case.
        if decoded not in (text, theirs.decode(expected, clean_up_tokenization_spaces=False)):
            decoded_differ.append(text)
    return TokenizerCheck(len(texts), ids_differ, decoded_differ, round_trips)


def _load(tokenizer: GPT2Tokenizer) -> Any:
    import transformers

    try:
        theirs = transformers.AutoTokenizer.from_pretrained(tokenizer.folder, local_files_only=True)
    except Exception:  # a folder without config.json, or any other problem that is not ours
        return None
    if getattr(theirs.backend_tokenizer.model, "dropout", None):
        theirs.backend_tokenizer.model.dropout = None
    return theirs
