"""The text of a `tokenizer.json`, made from the parts that older programs store GPT-2's byte-level BPE in.

Up to version 4, transformers' slow tokenizer saved `vocab.json` and `merges.txt`, and in three files beside them the
tokens that somebody added, and which of them are special.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

END_OF_TEXT = "<|endoftext|>"
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_LISTS = ("additional_special_tokens", "extra_special_tokens")


def byte_level_json(
    vocab: Mapping[str, int],
    merges: Sequence[Sequence[str]],
    added: Mapping[int, AddedToken],
    add_prefix_space: bool = False,
    start: str | None = None,
) -> str:
    """Return the text for a vocab, merges and added tokens by id; `<|endoftext|>` is always one of these.

    `start` is the token that transformers puts before each text, if it does.
    """
    ids = dict(vocab) | {token.content: id_ for id_, token in added.items()}
    if END_OF_TEXT in ids:
        added = {ids[END_OF_TEXT]: AddedToken(END_OF_TEXT, special=True)} | dict(added)
    # The library fills in all but the tokens: a vocab whose ids have gaps makes it print to standard output.
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
    """Return the text for `vocab.json`, `merges.txt` and the files beside them, understood as transformers does.

    Raises whatever comes up when a file is broken.
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
    """Yield the tokens that have a name of their own, such as `eos_token`, and those that are only called special."""
    for name in _NAMED:
        if settings.get(name) is not None:
            yield _token(settings[name], special=True)
    for name in _LISTS:
        tokens = settings.get(name) or []
        for token in tokens.values() if isinstance(tokens, dict) else tokens:
            yield _token(token, special=True)


def _token(value: Any, **fixed: bool) -> AddedToken:
    flags = {"content": value} if isinstance(value, str) else value
    return AddedToken(**(flags | fixed))


def _entry(id_: int, token: AddedToken) -> dict[str, Any]:
    names = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    return {"id": id_} | {name: getattr(token, name) for name in names}
