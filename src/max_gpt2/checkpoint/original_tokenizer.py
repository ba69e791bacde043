"""Find GPT-2's own tokenizer for weights that come without one, such as those of nanoGPT and llm.c."""

from pathlib import Path

from max_gpt2.checkpoint.locate import MOVED, download
from max_gpt2.errors import ModelNotFoundError, TokenizerError

#: The size of GPT-2's vocabulary, and the multiple of 64 to which nanoGPT and llm.c pad it.
VOCABULARY_SIZES = (50_257, 50_304)
_PAIRS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "config.json",
)


def has_tokenizer(folder: Path) -> bool:
    """Return True if a folder contains a tokenizer, or a vocabulary of other programs that the reader names."""
    pairs = (*_PAIRS, ("vocab.txt",), ("meta.pkl",))
    return any(all((folder / name).is_file() for name in names) for names in pairs)


def original_tokenizer() -> Path:
    """Return a folder with GPT-2's tokenizer, from the Hugging Face cache or else from the hub.

    All sizes of GPT-2 have the same tokenizer. Raises ModelNotFoundError when it is neither cached nor can be
    downloaded.
    """
    import huggingface_hub

    for repo in (*MOVED.values(), *MOVED):
        for names in _PAIRS:
            found = [huggingface_hub.try_to_load_from_cache(repo, name) for name in names]
            if all(isinstance(path, str) for path in found):
                return Path(str(found[0])).parent
    return download("gpt2", _FILES)


def named_tokenizer(name: str) -> Path:
    """Return the folder of the tokenizer with a hub id; any size of GPT-2 names the original one.

    Raises TokenizerError when there is none.
    """
    try:
        return original_tokenizer() if name in (*MOVED, *MOVED.values()) else download(name, _FILES)
    except ModelNotFoundError as error:
        raise TokenizerError(
            f'--tokenizer "{name}" is not a folder, and not a tokenizer on the hub either: {error}'
        ) from error


def tokenizer_for(folder: Path, vocab_size: int) -> Path:
    """Return the folder itself if it has a tokenizer or another vocabulary than GPT-2's, else that of the original.

    Raises TokenizerError when the original is neither cached nor can be downloaded.
    """
    if vocab_size not in VOCABULARY_SIZES or has_tokenizer(folder):
        return folder
    try:
        return original_tokenizer()
    except ModelNotFoundError as error:
        raise TokenizerError(
            f"{folder} has no tokenizer. Its vocabulary of {vocab_size} ids is GPT-2's, but: {error} Or copy GPT-2's "
            "tokenizer.json into the folder, or give a folder that has one: --tokenizer FOLDER."
        ) from error
