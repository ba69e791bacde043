"""The tokenizer's files of a converted checkpoint, for transformers and for programs that read older ones."""

import json
from typing import Any

from max_gpt2.config import GPT2Config
from max_gpt2.convert.config_files import json_file
from max_gpt2.tokenizer import END_OF_TEXT, GPT2Tokenizer

#: What a folder may have besides `tokenizer.json`; it is carried over as it is.
_CARRIED = (
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


def tokenizer_files(tokenizer: GPT2Tokenizer, config: GPT2Config, endings: list[int]) -> dict[str, bytes]:
    """Return the files by name: `tokenizer.json`, and what is beside it or can be made from it.

    `endings` are the ids that end a text.
    """
    files = {"tokenizer.json": tokenizer.json.encode()}
    if tokenizer.folder:
        found = [tokenizer.folder / name for name in _CARRIED]
        files |= {path.name: path.read_bytes() for path in found if path.is_file()}
    content = json.loads(tokenizer.json)
    if _is_gpt2s(content) and not {"vocab.json", "merges.txt"} <= files.keys():
        files |= _slow_files(content)
    tokens = {id_: token for token, id_ in tokenizer.vocab.items()}
    usual = END_OF_TEXT if END_OF_TEXT in tokenizer.vocab else None
    ending = next((tokens[id_] for id_ in endings if id_ in tokens), usual)
    return {"tokenizer_config.json": _tokenizer_config(content, ending, config.n_positions)} | files


def _is_gpt2s(content: dict[str, Any]) -> bool:
    """Say whether a vocab and merges are all there is to it, as in GPT-2; some fine-tunes brought their own kind."""
    split = content.get("pre_tokenizer") or {}
    usual = split.get("type") == "ByteLevel" and split.get("use_regex", True)
    return usual and "merges" in content["model"] and not content.get("normalizer")


def _slow_files(content: dict[str, Any]) -> dict[str, bytes]:
    """Return the tokenizer as older programs read it."""
    model = content["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    vocab = dict(sorted(model["vocab"].items(), key=lambda item: item[1]))
    added = {token["content"]: token["id"] for token in content.get("added_tokens") or []}
    later = {token: id_ for token, id_ in added.items() if token not in vocab}
    files = {
        "vocab.json": json.dumps(vocab, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
    }
    if later:
        files["added_tokens.json"] = json.dumps(later, ensure_ascii=False)
    return {name: text.encode() for name, text in files.items()}


def _tokenizer_config(content: dict[str, Any], ending: str | None, n_positions: int) -> bytes:
    """Return the settings; unless they name the special tokens, transformers adds its own behind the vocabulary."""
    gpt2s = _is_gpt2s(content)
    values: dict[str, Any] = dict.fromkeys(("bos_token", "eos_token", "unk_token"), ending)
    values |= {
        "add_prefix_space": gpt2s and bool(content["pre_tokenizer"].get("add_prefix_space")),
        "model_max_length": n_positions,
        # transformers makes a GPT2Tokenizer of the vocab and the merges alone, the other one of the whole file.
        "tokenizer_class": "GPT2Tokenizer" if gpt2s else "PreTrainedTokenizerFast",
    }
    return json_file(values)
