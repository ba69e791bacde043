"""Load a GPT-2 checkpoint of any format: a canonical float32 state dict, a config and a tokenizer."""

from max_gpt2.checkpoint.load import (
    Checkpoint,
    inspect_checkpoint,
    load_checkpoint,
    load_weights,
    loading_label,
    read_tokenizer,
)
from max_gpt2.checkpoint.locate import locate
from max_gpt2.checkpoint.options import DEFAULT_OPTIONS, Adapter, LoadOptions
from max_gpt2.checkpoint.plan import LoadPlan

__all__ = [
    "DEFAULT_OPTIONS",
    "Adapter",
    "Checkpoint",
    "LoadOptions",
    "LoadPlan",
    "inspect_checkpoint",
    "load_checkpoint",
    "load_weights",
    "loading_label",
    "locate",
    "read_tokenizer",
]
