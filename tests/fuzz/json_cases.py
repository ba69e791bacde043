"""Every field of a JSON document replaced by every nasty value."""

import json
from collections.abc import Iterator
from typing import Any

_HERE = "\ue000here\ue000"
#: As text, since some of it is JSON that no `json.dumps` writes.
NASTY = {
    "0": "0",
    "1": "1",
    "-1": "-1",
    "0.5": "0.5",
    "2**31-1": str(2**31 - 1),
    "2**31": str(2**31),
    "2**32": str(2**32),
    "2**63-1": str(2**63 - 1),
    "2**64-1": str(2**64 - 1),
    "an int of 5000 digits": "1" + 5000 * "0",
    "1e999": "1e999",
    "NaN": "NaN",
    "empty text": '""',
    "long text": json.dumps("x" * 70_000),
    "null": "null",
    "true": "true",
    "[]": "[]",
    "{}": "{}",
    "nested lists": "[[[1]]]",
    "[null]": "[null]",
    "an object": '{"content": 1}',
    "absolute path": '"/dev/zero"',
    "path upwards": '"../secret"',
    "a path of one dot": '"."',
    "a name with NUL": '"a\\u0000b"',
    "a lone surrogate": '"\\ud800"',
    "deep nesting": 20_000 * "[" + 20_000 * "]",
    "deep objects": 300 * '{"a":' + "1" + 300 * "}",
    "no JSON": "@",
}
#: Of longer lists and objects only some entries are damaged: the others are like them.
_LONG, _SOME = 32, 3


def nasty_documents(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what was done and the document: each field with each value, and its key twice, gone or empty."""
    document = json.loads(content)
    for path in _paths(document):
        name = "/".join(map(str, path)) or "the whole"
        with_hole = json.dumps(_replaced(document, path, _HERE))
        for said, raw in NASTY.items():
            yield f"{name} is {said}", _filled(with_hole, raw)
        if path and isinstance(path[-1], str):
            key = json.dumps(path[-1])
            yield f"{name} is there twice", _filled(with_hole, f"0, {key}: 0")
            value = json.dumps(_value(document, path))
            yield f"{name} is there twice, the same", _filled(with_hole, f"{value}, {key}: {value}")
            gone = _filled(with_hole, "0").decode().replace(f"{key}: 0", '"": 0', 1)
            yield f"{name} has an empty name", gone.encode()
            without = _value(document, path[:-1]).copy()
            del without[path[-1]]
            yield f"{name} is not there", json.dumps(_replaced(document, path[:-1], without)).encode()


def _filled(with_hole: str, raw: str) -> bytes:
    return with_hole.replace(json.dumps(_HERE), raw).encode()


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the way to each value, of long lists and objects to some of them."""
    yield path
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if len(keys) > _LONG:
        keys = [*keys[:_SOME], *keys[-_SOME:]]
    for key in keys:
        yield from _paths(value[key], (*path, key))


def _value(document: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def _replaced(document: Any, path: tuple[str | int, ...], new: Any) -> Any:
    if not path:
        return new
    copy = document.copy()
    copy[path[0]] = _replaced(document[path[0]], path[1:], new)
    return copy
