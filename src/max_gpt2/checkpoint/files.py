"""The safetensors files of a folder: one, or several with an index; what they hold, and reading one tensor of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes  # noqa: F401  (teaches numpy, and so safetensors, what bfloat16 is)
import numpy as np
from safetensors import SafetensorError, safe_open

from max_gpt2.config import read_json
from max_gpt2.errors import CheckpointError, listed

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_AGAIN = "Download the file again."


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a file has it: its name there, safetensors' name of its dtype ("F16"), its shape, its file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path

    def read(self) -> np.ndarray:
        """Return the values, as they are stored."""
        with _opened(self.file) as handle:
            return handle.get_tensor(self.name)


def stored_tensors(folder: Path) -> list[StoredTensor]:
    """List what the safetensors files of a folder hold, without reading it; raises CheckpointError."""
    if (folder / SINGLE).exists():
        return _tensors_of(folder / SINGLE)
    if (folder / INDEX).exists():
        return _tensors_of_shards(folder)
    others = sorted(
        path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".gguf", ".h5", ".msgpack"}
    )
    found = f" (there is {', '.join(others)}, which is not read)" if others else ""
    raise CheckpointError(f"{folder} has no {SINGLE}{found}. Download the safetensors file, or give another folder.")


def _tensors_of(path: Path) -> list[StoredTensor]:
    _refuse_what_is_no_safetensors(path)
    with _opened(path) as handle:
        slices = ((name, handle.get_slice(name)) for name in handle.keys())  # noqa: SIM118  (it is no dict)
        return [StoredTensor(name, part.get_dtype(), tuple(part.get_shape()), path) for name, part in slices]


def _tensors_of_shards(folder: Path) -> list[StoredTensor]:
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{folder / INDEX} has no weight_map from tensors to files. {_AGAIN}")
    problems = []
    tensors: list[StoredTensor] = []
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard or shard in {"", ".", ".."}:
            problems.append(f"the shard {shard!r} is not a plain file name")
        elif not (folder / shard).is_file():
            problems.append(f"the shard {shard} is missing")
        else:
            tensors += _tensors_of(folder / shard)
    if problems:
        raise CheckpointError(listed(str(folder / INDEX), problems, "Download the checkpoint again."))
    held = {(tensor.name, tensor.file.name) for tensor in tensors}
    promised = set(weight_map.items())
    problems = [f"{name} should be in {shard} and is not" for name, shard in sorted(promised - held)]
    problems += [f"{name} is in {shard}, which the index does not say" for name, shard in sorted(held - promised)]
    if problems:
        raise CheckpointError(listed(str(folder / INDEX), problems, "Download the checkpoint again."))
    return tensors


def _refuse_what_is_no_safetensors(path: Path) -> None:
    """Name the usual impostors: to the safetensors library each of them is only a header that is too large."""
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file. Give a folder with a Hugging Face checkpoint.")
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise CheckpointError(f"{path} is empty. {_AGAIN}")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the weights. Run `git lfs pull` in its repository.")
    if start.lstrip().startswith(b"<"):
        raise CheckpointError(f"{path} is a web page, not the weights: the download went wrong. {_AGAIN}")


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, framework="numpy") as handle:
            yield handle
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is cut off or damaged ({error}). {_AGAIN}") from error
