"""Read LoRA adapters as PEFT saves them: `adapter_config.json` and `adapter_model.safetensors`.

LoRA (Hu et al. 2021, arXiv:2106.09685) changes a weight W [out, in] to W + scale * B A, with B [out, r] and A [r, in].
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from max_gpt2.checkpoint.formats.huggingface import as_state_dict, safetensors_tensors
from max_gpt2.checkpoint.formats.pytorch import load_pickle, pickled_tensors
from max_gpt2.checkpoint.formats.source import StoredTensor
from max_gpt2.checkpoint.options import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from max_gpt2.config import read_json
from max_gpt2.errors import CheckpointError, listed

_PREFIX = "base_model.model."
#: The parts of a low-rank change, and the other ends of names, by their meaning.
_NAMES = re.compile(
    r"(?P<module>.*?)\.(?:(?P<part>lora_A\.weight|lora_B\.weight|lora_B\.bias|lora_embedding_A|lora_embedding_B)"
    r"|(?P<base>base_layer\.)?(?:modules_to_save\.)?(?P<parameter>weight|bias))"
)
#: Fields that do not change what the adapter computes, or that this module reads.
_READ = frozenset(
    {
        *("alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "eva_config"),
        *("exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern"),
        *("layers_to_transform", "loftq_config", "lora_alpha", "lora_bias", "lora_dropout", "megatron_core"),
        *("modules_to_save", "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision"),
        *("runtime_config", "target_modules", "task_type", "use_rslora"),
    }
)
#: Initialisations that leave the base weights as they are. Others (PiSSA, OLoRA, LoftQ, ...) change them.
_INITIALISATIONS = (True, False, None, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True)
class LowRank:
    """A low-rank change of a weight: `scale` times the product of two stored factors, B [out, r] and A [r, in]."""

    a: StoredTensor
    b: StoredTensor
    scale: float


@dataclass(frozen=True)
class AdapterFile:
    """The content of an adapter, without its values.

    Attributes:
        folder: The folder of the adapter.
        low_rank: The low-rank change of each module's weight, by the module's name.
        biases: What is added to biases, with a factor, by the module's name (`lora_bias`).
        replaced: Tensors that replace those of the base model, by name (`modules_to_save` and `bias`).
        unchanged: Weights of the base model that the adapter repeats, by name.

    """

    folder: Path
    low_rank: dict[str, LowRank]
    biases: dict[str, tuple[StoredTensor, float]]
    replaced: dict[str, StoredTensor]
    unchanged: dict[str, StoredTensor]


def read_adapter(folder: Path, allow_pickle: bool = False) -> AdapterFile:
    """Read an adapter's config and the index of its tensors; raises CheckpointError for anything but plain LoRA."""
    path = folder / ADAPTER_CONFIG
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {ADAPTER_CONFIG}. Give a folder with a LoRA adapter, as PEFT saves it.")
    config = read_json(path)
    if problems := _problems(config):
        remedy = "Merge the adapter with PEFT's merge_and_unload(), save the result, and load that folder instead."
        raise CheckpointError(listed(f"{path} is not supported", problems, remedy))
    tensors = _tensors(folder, allow_pickle)
    parts: dict[str, dict[str, StoredTensor]] = {}
    found = AdapterFile(folder, {}, {}, {}, {})
    unknown = []
    for tensor in tensors:
        name = tensor.name.removeprefix(_PREFIX)
        match = _NAMES.fullmatch(name)
        if not match:
            unknown.append(tensor.name)
        elif match["part"]:
            parts.setdefault(match["module"], {})[match["part"]] = tensor
        elif match["base"] and match["parameter"] == "weight":
            found.unchanged[f"{match['module']}.weight"] = tensor
        else:
            found.replaced[f"{match['module']}.{match['parameter']}"] = tensor
    problems = [f"{name} is not part of LoRA" for name in unknown]
    for module, group in parts.items():
        problems += _add_low_rank(found, module, group, config)
    if problems:
        raise CheckpointError(listed(f"The adapter in {folder} cannot be merged", problems, "Use another adapter."))
    return found


def _problems(config: Mapping[str, Any]) -> list[str]:
    """Return what in a config is not plain LoRA."""
    if config.get("peft_type") != "LORA":
        return [f"peft_type is {json.dumps(config.get('peft_type'))}, not LORA"]
    problems = [f"{name} is {json.dumps(value)}" for name, value in config.items() if value and name not in _READ]
    if config.get("init_lora_weights", True) not in _INITIALISATIONS:
        problems.append(f"init_lora_weights is {json.dumps(config['init_lora_weights'])}, which changes the base model")
    for name in ("alpha_pattern", "rank_pattern"):
        if not isinstance(config.get(name) or {}, dict):
            problems.append(f"{name} is not an object")
    return problems


def _tensors(folder: Path, allow_pickle: bool) -> list[StoredTensor]:
    file = next((folder / name for name in ADAPTER_WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise CheckpointError(f"{folder} has no {ADAPTER_WEIGHTS[0]}. Download the adapter again.")
    if file.name == ADAPTER_WEIGHTS[0]:
        return safetensors_tensors(file)
    return pickled_tensors(as_state_dict(load_pickle(file, allow_pickle), file), file)


def _add_low_rank(
    found: AdapterFile, module: str, parts: Mapping[str, StoredTensor], config: Mapping[str, Any]
) -> list[str]:
    """Add the change of one module to `found`; return the problems instead if there are any."""
    embedding = "lora_embedding_A" in parts or "lora_embedding_B" in parts
    names = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A.weight", "lora_B.weight")
    if missing := [name for name in names if name not in parts]:
        return [f"{module}.{name} is missing" for name in missing]
    a, b = (parts[name] for name in names)
    r = _of_module(config, "rank_pattern", "r", module)
    alpha = _of_module(config, "alpha_pattern", "lora_alpha", module)
    if not isinstance(r, int) or r < 1 or not isinstance(alpha, int | float):
        return [f"r is {r!r} and lora_alpha is {alpha!r} for {module}, not positive numbers"]
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != r or b.shape[1] != r:
        return [f"{a.name} is {list(a.shape)} and {b.name} is {list(b.shape)}, which are not of rank {r}"]
    scale = alpha / (math.sqrt(r) if config.get("use_rslora") else r)
    found.low_rank[module] = LowRank(a, b, scale)
    if bias := parts.get("lora_B.bias"):
        found.biases[module] = (bias, scale)
    return []


def _of_module(config: Mapping[str, Any], patterns: str, default: str, module: str) -> Any:
    """Return a module's rank or alpha: that of the first pattern that matches the end of its name, or the default."""
    for pattern, value in (config.get(patterns) or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return config.get(default, 8)
