"""The model for users: every flag of a real checkpoint, compiled once for every batch and length."""

from max_gpt2.model.cache import cache_bytes
from max_gpt2.model.compiled import CompiledModel, compile_model
from max_gpt2.model.operations import Kernels
from max_gpt2.model.session import Session
from max_gpt2.model.traced import TracedModel, trace_model
from max_gpt2.model.transformer import BLOCK_STATES, state_names

__all__ = [
    "BLOCK_STATES",
    "CompiledModel",
    "Kernels",
    "Session",
    "TracedModel",
    "cache_bytes",
    "compile_model",
    "state_names",
    "trace_model",
]
