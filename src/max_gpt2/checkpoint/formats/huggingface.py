"""Hugging Face's folders: `config.json`, with safetensors or a pickled state dict, in one file or in shards."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from max_gpt2.checkpoint.formats.detect import AGAIN, Kind, detect
from max_gpt2.checkpoint.formats.pickled import load_pickle, pickled_tensors
from max_gpt2.checkpoint.formats.safetensors_file import safetensors_tensors
from max_gpt2.checkpoint.formats.source import Source, StoredTensor
from max_gpt2.config import read_config, read_json
from max_gpt2.errors import CheckpointError, listed

SAFETENSORS = "Hugging Face safetensors"
PICKLE = "Hugging Face pickle"


def read_safetensors(path: Path, file: Path) -> Source:
    """Read a safetensors file and the config beside it; raises ConfigError or CheckpointError."""
    config = read_config(file.parent)
    return Source(SAFETENSORS, path, safetensors_tensors(file), config, conv1d=True)


def read_state_dict(path: Path, file: Path, state_dict: Mapping[Any, Any]) -> Source:
    """Take a state dict out of a pickle and the config beside it; raises ConfigError or CheckpointError."""
    config = read_config(file.parent)
    return Source(PICKLE, path, pickled_tensors(state_dict, file), config, conv1d=True, pickled=True)


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
        raise CheckpointError(f"The shard {file} is a file of {kind.value}, not of safetensors or PyTorch. {AGAIN}")

    tensors = _tensors_of_shards(index, read_shard)
    pickled = Kind.PICKLE in kinds
    shards = len({tensor.file for tensor in tensors})
    name = f"{PICKLE if pickled else SAFETENSORS}, {shards} shard{'s' if shards > 1 else ''}"
    return Source(name, path, tensors, config, conv1d=True, pickled=pickled)


def as_state_dict(content: Any, file: Path) -> Mapping[Any, Any]:
    """Return what a pickle holds if it is a dict; raises CheckpointError otherwise."""
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds a {type(content).__name__}, not a state dict. Take another checkpoint.")
    return content


def _tensors_of_shards(index: Path, read_shard: Callable[[Path], list[StoredTensor]]) -> list[StoredTensor]:
    """List the tensors of all shards; the index and the shards have to agree on every one of them."""
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
    held = {(tensor.name, tensor.file.name) for tensor in tensors}
    promised = set(weight_map.items())
    problems = [f"{name} should be in {shard} and is not" for name, shard in sorted(promised - held)]
    problems += [f"{name} is in {shard}, which the index does not say" for name, shard in sorted(held - promised)]
    if problems:
        raise CheckpointError(listed(str(index), problems, "Download the checkpoint again."))
    return tensors


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False
