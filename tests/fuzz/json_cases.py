"""JSON documents in which each field is replaced by each of many unusual values."""

import json
from collections.abc import Iterator
from typing import Any

_PLACEHOLDER = "\ue000here\ue000"
#: Written as text, since `json.dumps` cannot produce all of them.
VALUES = {
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
#: Of lists and objects longer than `_LONG`, only the first and last `_SOME` entries are damaged; the others are alike.
_LONG, _SOME = 32, 3


def damaged_documents(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a description and a document: each field with each value, duplicated, without a name and removed."""
    document = json.loads(content)
    for path in _paths(document):
        name = "/".join(map(str, path)) or "the document"
        with_hole = json.dumps(_replaced(document, path, _PLACEHOLDER))
        for description, raw in VALUES.items():
            yield f"{name} is {description}", _filled(with_hole, raw)
        if path and isinstance(path[-1], str):
            key = json.dumps(path[-1])
            yield f"{name} occurs twice", _filled(with_hole, f"0, {key}: 0")
            value = json.dumps(_value(document, path))
            yield f"{name} occurs twice with the same value", _filled(with_hole, f"{value}, {key}: {value}")
            renamed = _filled(with_hole, "0").decode().replace(f"{key}: 0", '"": 0', 1)
            yield f"{name} has an empty name", renamed.encode()
            without = _value(document, path[:-1]).copy()
            del without[path[-1]]
            yield f"{name} is missing", json.dumps(_replaced(document, path[:-1], without)).encode()


def _filled(with_hole: str, raw: str) -> bytes:
    return with_hole.replace(json.dumps(_PLACEHOLDER), raw).encode()


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path to each value; of long lists and objects, to some of them."""
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
