"""Checkpoints of every kind that occurs, made by transformers, PyTorch and gguf, and what has to become of them."""

from tests.zoo import broken, flags, formats, gguf_files, layouts, prompts, shards
from tests.zoo.fixture import ZOO, Fixture, Group

__all__ = ["ZOO", "Fixture", "Group", "broken", "flags", "formats", "gguf_files", "layouts", "prompts", "shards"]
