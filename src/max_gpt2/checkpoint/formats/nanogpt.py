"""Read nanoGPT's `ckpt.pt`: a dict with the weights in `model` and the sizes in `model_args`.

Linear weights are `[out, in]`, as in PyTorch. nanoGPT uses the exact (erf) GELU and a LayerNorm epsilon of 1e-5; with
`bias=False`, the model has no biases at all, not even in LayerNorm.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from max_gpt2.checkpoint.formats.huggingface import as_state_dict
from max_gpt2.checkpoint.formats.pytorch import pickled_tensors
from max_gpt2.checkpoint.formats.source import Source
from max_gpt2.config import GPT2Config
from max_gpt2.errors import ConfigError, listed

_REMEDY = "Use another checkpoint."
_SIZES = {
    "vocab_size": "vocab_size",
    "block_size": "n_positions",
    "n_embd": "n_embd",
    "n_layer": "n_layer",
    "n_head": "n_head",
}


def is_nanogpt(content: Any) -> bool:
    """Return True if the content of a pickle is a nanoGPT checkpoint."""
    return isinstance(content, dict) and {"model", "model_args"} <= content.keys()


def read_nanogpt(path: Path, file: Path, content: Mapping[str, Any]) -> Source:
    """Extract the weights and the config from a checkpoint; raises ConfigError or CheckpointError."""
    arguments = content["model_args"]
    config, bias = _config(arguments, f"model_args in {file}"), arguments.get("bias", True)
    tensors = pickled_tensors(as_state_dict(content["model"], file), file)
    no_biases = "" if bias else "model_args has bias=False"
    return Source("nanoGPT", path, tensors, config, no_biases=no_biases, pickled=True)


def _config(arguments: Any, source: str) -> GPT2Config:
    if not isinstance(arguments, dict):
        raise ConfigError(f"{source} is of type {type(arguments).__name__}, not a dict. {_REMEDY}")
    problems = [f"{name} is missing" for name in _SIZES if name not in arguments]
    if not isinstance(arguments.get("bias", True), bool):
        problems.append(f"bias is {arguments['bias']!r}, not True or False")
    if problems:
        raise ConfigError(listed(source, problems, _REMEDY))
    values = {ours: arguments[theirs] for theirs, ours in _SIZES.items()}
    fixed = {"model_type": "gpt2", "activation_function": "gelu", "layer_norm_epsilon": 1e-5}
    return GPT2Config.from_dict(values | fixed | {"bos_token_id": None}, source, _REMEDY)
