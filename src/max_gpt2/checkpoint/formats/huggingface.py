"""Read Hugging Face folders: `config.json` with safetensors or a pickled state dict, in one file or in shards."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from max_gpt2._files import first_duplicate
from max_gpt2.checkpoint.formats.detect import AGAIN, Kind, detect
from max_gpt2.checkpoint.formats.mapping import MappedFile
from max_gpt2.checkpoint.formats.pytorch import load_pickle, pickled_tensors
from max_gpt2.checkpoint.formats.source import EXACT, Source, StoredTensor
from max_gpt2.checkpoint.layout import canonical_name, why_skipped
from max_gpt2.config import read_config, read_json
from max_gpt2.errors import CheckpointError, listed

#: The safetensors library's own limit.
LARGEST_HEADER = 100_000_000


def safetensors_tensors(path: Path) -> list[StoredTensor]:
    """List the tensors of a safetensors file without reading values; raises CheckpointError."""
    start, header = _header(path)
    try:
        with safe_open(path, framework="numpy") as handle:  # the library checks every entry and the file's length
            slices = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118  (not a dict)
            kinds = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or damaged ({error}). {AGAIN}") from error
    ranges = {name: [start + end for end in header[name]["data_offsets"]] for name in kinds}
    mapped = MappedFile(path, [ranges[name] for name in kinds if not why_skipped(canonical_name(name))])
    tensors = []
    for name, (dtype, shape) in kinds.items():
        offset = ranges[name][0]
        read, kept = (partial(_read, method, dtype, offset, shape) for method in (mapped.values, mapped.kept_values))
        tensors.append(StoredTensor(name, dtype, shape, path, read, read_kept=kept))
    return tensors


def _read(values: Callable[..., np.ndarray], dtype: str, offset: int, shape: tuple[int, ...]) -> np.ndarray:
    return values(EXACT[dtype], offset, shape)  # other tensors may have dtypes that are not in EXACT


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Return the offset of the values, and the header.

    Raises CheckpointError for duplicate names: the library would silently use one of the two tensors.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > LARGEST_HEADER:
            raise CheckpointError(f"{path} is damaged: its header would have {size:,} bytes, more than 100 MB. {AGAIN}")
        header = file.read(size)
    try:
        return 8 + size, json.loads(header.decode("utf-8"), object_pairs_hook=partial(_without_duplicates, path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is truncated or damaged (its header is not JSON in UTF-8: {error}). {AGAIN}"
        ) from error


def _without_duplicates(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) < len(pairs):
        twice = first_duplicate(name for name, _ in pairs)
        raise CheckpointError(f"{path} has {twice!r} twice in its header. Get the checkpoint from another source.")
    return seen


SAFETENSORS = "Hugging Face safetensors"
PICKLE = "Hugging Face pickle"


def read_safetensors(path: Path, file: Path) -> Source:
    """Read a safetensors file and the config beside it; raises ConfigError or CheckpointError."""
    config = read_config(file.parent)
    return Source(SAFETENSORS, path, safetensors_tensors(file), config, conv1d=True)


def read_state_dict(path: Path, file: Path, content: Any) -> Source:
    """Read the state dict in a pickle and the config beside it; raises ConfigError or CheckpointError."""
    state_dict, config = as_state_dict(content, file), read_config(file.parent)
    wrapped = state_dict is not content
    return Source(PICKLE, path, pickled_tensors(state_dict, file), config, conv1d=True, pickled=True, wrapped=wrapped)


def read_shards(path: Path, index: Path, allow_pickle: bool) -> Source:
    """Read the shards of an index and the config beside it; raises ConfigError or CheckpointError."""
    config = read_config(index.parent)
    kinds: set[Kind] = set()

    def read_shard(file: Path) -> list[StoredTensor]:
        kind = detect(file)
        kinds.add(kind)
        if kind is Kind.SAFETENSORS:
            return safetensors_tensors(file)
        if kind is Kind.PICKLE:
            return pickled_tensors(as_state_dict(load_pickle(file, allow_pickle), file), file)
        raise CheckpointError(f"The shard {file} has the format {kind.value}, not safetensors or PyTorch. {AGAIN}")

    tensors = _tensors_of_shards(index, read_shard)
    pickled = Kind.PICKLE in kinds
    shards = len({tensor.file for tensor in tensors})
    name = f"{PICKLE if pickled else SAFETENSORS}, {shards} shard{'s' if shards > 1 else ''}"
    return Source(name, path, tensors, config, conv1d=True, pickled=pickled)


#: The keys under which training programs save a state dict beside other values: Lightning, DeepSpeed, and others.
_WRAPPERS = ("state_dict", "module", "model_state_dict", "model")


def as_state_dict(content: Any, file: Path) -> Mapping[Any, Any]:
    """Return the state dict that a pickle is or contains; raises CheckpointError when there is none, or several."""
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} contains a {type(content).__name__}, not a state dict. Use another checkpoint.")
    found = [key for key in _WRAPPERS if isinstance(content.get(key), dict) and content[key]]
    if len(found) > 1:
        raise CheckpointError(
            f"{file} contains several state dicts: {', '.join(found)}. Save one of them to a file of its own: "
            f'torch.save(torch.load(FILE)["{found[0]}"], "pytorch_model.bin").'
        )
    return content[found[0]] if found else content


def _tensors_of_shards(index: Path, read_shard: Callable[[Path], list[StoredTensor]]) -> list[StoredTensor]:
    """List the tensors of all shards; raises CheckpointError when the index and the shards disagree."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{index} has no weight_map from tensors to files. {AGAIN}")
    problems = []
    tensors: list[StoredTensor] = []
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard or shard in {"", ".", ".."}:
            problems.append(f"the shard {shard!r} is not a plain file name")
        elif not _is_file(index.parent / shard):
            problems.append(f"the shard {shard} is missing")
        else:
            tensors += read_shard(index.parent / shard)
    if problems:
        raise CheckpointError(listed(str(index), problems, "Download the checkpoint again."))
    stored = {(tensor.name, tensor.file.name) for tensor in tensors}
    indexed = set(weight_map.items())
    problems = [f"{name} is not in {shard}, where the index has it" for name, shard in sorted(indexed - stored)]
    problems += [f"{name} is in {shard}, but not in the index" for name, shard in sorted(stored - indexed)]
    if problems:
        raise CheckpointError(listed(str(index), problems, "Download the checkpoint again."))
    return tensors


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long
        return False
