"""The model for users: every flag of a real checkpoint, compiled once for every batch and length.

What is here takes milliseconds to import. `model.compiling` and `model.traced` need the part of MAX that makes graphs,
which takes most of a second.
"""

from max_gpt2.model.batch import Kernels
from max_gpt2.model.compile import BLOCK_STATES, state_names
from max_gpt2.model.kv_cache import cache_bytes
from max_gpt2.model.session import CompiledModel, Session

__all__ = ["BLOCK_STATES", "CompiledModel", "Kernels", "Session", "cache_bytes", "state_names"]
