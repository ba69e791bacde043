"""Parts with arrays: safetensors files."""

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from max_gpt2._files import json_text
from max_gpt2.batch.corpus.folder import HashingSink

#: The entry of the file's metadata that has the columns of all rows as JSON.
_ROWS = "rows"


class TensorsPart:
    """Writes the arrays of all rows to a safetensors file when it is complete; until then they are in memory.

    The array "h.5" of the row with the index 12 has the name "12.h.5". The other columns are in the metadata.
    """

    def __init__(self, sink: HashingSink, encode: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
        """Begin a file; `encode` returns the columns of a row as JSON values."""
        self._sink, self._encode = sink, encode
        self._rows: list[dict[str, Any]] = []
        self._arrays: dict[str, np.ndarray] = {}

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row; its arrays are in the column "arrays"."""
        self._rows.append(self._encode({name: value for name, value in row.items() if name != "arrays"}))
        del self._rows[-1]["arrays"]
        for name, array in (row.get("arrays") or {}).items():
            self._arrays[f"{row['index']}.{name}"] = np.ascontiguousarray(array)

    def close(self) -> None:
        """Write the file; raises OSError."""
        from safetensors.numpy import save

        # One entry: the library writes several in no fixed order.
        self._sink.write(save(self._arrays, {_ROWS: json_text(self._rows)}))


def read_rows(file: Any) -> Iterator[dict[str, Any]]:
    """Yield the columns of the rows of a safetensors file; raises ValueError or KeyError if it is damaged."""
    (size,) = struct.unpack("<Q", file.read(8))
    header = json.loads(file.read(size))
    yield from json.loads(header["__metadata__"][_ROWS])
