"""Create a `tokenizer.json` from the files in which older programs store GPT-2's byte-level BPE.

Up to version 4, the slow tokenizer of transformers saved `vocab.json` and `merges.txt`, and described added and special
tokens in three more files.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

END_OF_TEXT = "<|endoftext|>"
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FLAGS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
#: In characters. The memory of the library's matcher for added tokens is quadratic in their length.
_MAX_ADDED_LENGTH = 1_000
_LISTS = ("additional_special_tokens", "extra_special_tokens")


def added_tokens(text: str) -> list[dict[str, Any]]:
    """Return the added tokens of a `tokenizer.json`; raises ValueError if it would crash or stall the library."""
    content = json.loads(text)
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise ValueError("it has no model")
    if prefix := content["model"].get("continuing_subword_prefix"):
        raise ValueError(f"its continuing_subword_prefix is {json.dumps(prefix)}, and GPT-2's BPE has none")
    tokens = content.get("added_tokens") or []
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        raise ValueError("its added_tokens are not a list of objects")
    if any(len(str(token.get("content"))) > _MAX_ADDED_LENGTH for token in tokens):
        raise ValueError(f"an added token has more than {_MAX_ADDED_LENGTH:,} characters")
    return tokens


def byte_level_json(
    vocab: Mapping[str, int],
    merges: Sequence[Sequence[str]],
    added: Mapping[int, AddedToken],
    add_prefix_space: bool = False,
    start: str | None = None,
) -> str:
    """Return a `tokenizer.json` for a vocabulary, merges and added tokens by id; it always adds `<|endoftext|>`.

    `start` is the token that transformers prepends to each text, if any.
    """
    ids = dict(vocab) | {token.content: id_ for id_, token in added.items()}
    if END_OF_TEXT in ids:
        added = {ids[END_OF_TEXT]: AddedToken(END_OF_TEXT, special=True)} | dict(added)
    # Insert the tokens into the JSON: the library prints to stdout when a vocabulary has gaps in its ids.
    frame = Tokenizer(models.BPE())
    frame.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    frame.decoder = decoders.ByteLevel()
    if start in ids:
        pair = [f"{start}:0", "$A:0", f"{start}:1", "$B:1"]
        frame.post_processor = processors.TemplateProcessing(pair[:2], pair, [(start, ids[start])])
    content = json.loads(frame.to_str())
    content["model"] |= {"vocab": dict(vocab), "merges": [list(pair) for pair in merges]}
    content["added_tokens"] = [_entry(id_, token) for id_, token in sorted(added.items())]
    return json.dumps(content, ensure_ascii=False, indent=2)


def slow_tokenizer_json(folder: Path) -> str:
    """Return a `tokenizer.json` for `vocab.json`, `merges.txt` and the files of added tokens, as transformers does.

    Raises any exception when a file is damaged.
    """
    vocab, merges = models.BPE.read_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    settings = _read(folder / "tokenizer_config.json")
    if "added_tokens_decoder" in settings:
        special = {token.content: token for token in _special(settings)}
        listed = {int(id_): _token(token) for id_, token in settings["added_tokens_decoder"].items()}
    else:
        settings |= _read(folder / "special_tokens_map.json")
        special = {token.content: token for token in _special(settings)}
        later = _read(folder / "added_tokens.json")
        listed = {id_: AddedToken(token, special=token in special) for token, id_ in later.items()}
    known = {vocab[name]: token for name, token in special.items() if name in vocab}
    start = settings.get("bos_token", END_OF_TEXT) if settings.get("add_bos_token") else None
    return byte_level_json(
        vocab,
        merges,
        known | listed,
        add_prefix_space=bool(settings.get("add_prefix_space")),
        start=None if start is None else _token(start).content,
    )


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_bytes())) if path.is_file() else {}


def _special(settings: Mapping[str, Any]) -> Iterator[AddedToken]:
    """Yield the special tokens: named ones such as `eos_token`, and the lists of additional ones."""
    for name in _NAMED:
        if settings.get(name) is not None:
            yield _token(settings[name], special=True)
    for name in _LISTS:
        tokens = settings.get(name) or []
        for token in tokens.values() if isinstance(tokens, dict) else tokens:
            yield _token(token, special=True)


def _token(value: Any, **fixed: bool) -> AddedToken:
    if isinstance(value, str):
        return AddedToken(value, **fixed)
    flags = {name: value[name] for name in _FLAGS if name in value}
    return AddedToken(**({"content": value["content"]} | flags | fixed))


def _entry(id_: int, token: AddedToken) -> dict[str, Any]:
    return {"id": id_} | {name: getattr(token, name) for name in _FLAGS}
