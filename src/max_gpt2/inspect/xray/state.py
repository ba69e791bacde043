"""Parse and check the requests of the page, and encode its answers as JSON."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.inspect.edits import Edit, ablate_head, zero
from max_gpt2.inspect.probes import name_in
from max_gpt2.tokenizer import GPT2Tokenizer


@dataclass(frozen=True)
class State:
    """A text, as ids, and the parts of the model that are ablated: (layer, head), and (layer, None) for an MLP."""

    ids: tuple[int, ...]
    ablated: tuple[tuple[int, int | None], ...] = ()

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Self:
        """Read a state from JSON values; raises RequestError for one of the wrong type."""
        ids, ablated = fields.get("ids"), fields.get("ablated", [])
        if not isinstance(ids, list) or not all(type(one) is int for one in ids):
            raise RequestError("ids is not a list of token ids. Send [1, 2, 3].")
        if not isinstance(ablated, list) or not all(isinstance(one, dict) for one in ablated):
            raise RequestError('ablated is not a list. Send [{"layer": 0, "head": 1}], or null as the head of an MLP.')
        parts = {(integer(one, "layer"), integer(one, "head", none=True)) for one in ablated}
        return cls(tuple(ids), tuple(sorted(parts, key=lambda part: (part[0], -1 if part[1] is None else part[1]))))

    def unedited(self) -> "State":
        """Return the state without ablations."""
        return State(self.ids)

    def edits(self, config: GPT2Config) -> tuple[Edit, ...]:
        """Return the ablations as edits; raises RequestError for a layer or a head that the model does not have."""
        edits = tuple(
            zero(name_in(layer, "mlp")) if head is None else ablate_head(layer, head) for layer, head in self.ablated
        )
        for edit in edits:
            edit.check(config)
        return edits


def integer(fields: Mapping[str, Any], name: str, *, none: bool = False) -> Any:
    """Return an integer of JSON values, or None if that is allowed; raises RequestError for anything else."""
    value = fields.get(name)
    if not (type(value) is int or (none and value is None)):
        raise RequestError(f"{name} is not an integer. Send a number.")
    return value


def encode_array(array: np.ndarray) -> dict[str, Any]:
    """Return an array for JSON: floats as float32, integers as int32, bytes as they are, in base64, little endian."""
    kind = {"f": "float32", "i": "int32", "u": "uint8"}[array.dtype.kind]
    values = np.ascontiguousarray(array, dtype=np.dtype(kind).newbyteorder("<"))
    return {"shape": list(array.shape), "dtype": kind, "data": base64.b64encode(values.tobytes()).decode()}


def token_text(tokenizer: GPT2Tokenizer, id_: int) -> str:
    """Return the text of a token, or its bytes, such as ⟨e2 80⟩, if they are a part of a character."""
    if id_ >= tokenizer.size:
        return f"⟨{id_}⟩"
    raw = tokenizer.token_bytes(id_)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return f"⟨{raw.hex(' ')}⟩"


def token_texts(tokenizer: GPT2Tokenizer, *ids: Iterable[int] | np.ndarray) -> dict[str, str]:
    """Return the texts of ids by id, which is a string since keys of JSON are."""
    distinct = {int(id_) for some in ids for id_ in np.unique(np.array(list(some)))}
    return {str(id_): token_text(tokenizer, id_) for id_ in sorted(distinct)}
