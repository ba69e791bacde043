"""The compiled transformer: token ids in, logits out.

Importing this package takes milliseconds. `model.compile` imports the part of MAX that builds graphs, which takes most
of a second.
"""

from max_gpt2.model.kv_cache import cache_bytes
from max_gpt2.model.session import BLOCK_STATES, CompiledModel, HiddenStates, Session, state_names

__all__ = ["BLOCK_STATES", "CompiledModel", "HiddenStates", "Session", "cache_bytes", "state_names"]
