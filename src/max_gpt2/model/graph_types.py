"""The types of the arrays that the graph takes."""

from max.driver import CPU
from max.dtype import DType
from max.graph import BufferType, DeviceRef, TensorType

from max_gpt2.config import GPT2Config


def token_types() -> list[TensorType]:
    """Return the types of the arrays of `NewTokens`, without the last."""
    return [ids_type("tokens"), ids_type("tokens"), ids_type("offsets"), ids_type("texts"), ids_type("texts")]


def paged_token_types() -> list[TensorType]:
    """Return the same for a cache in pages: a table of them takes the place of the slots."""
    return [*token_types()[:-1], TensorType(DType.int64, ["texts", "pages"], device=CPU())]


def blocks_type(config: GPT2Config) -> BufferType:
    """Return the type of the blocks of `PagedTexts`."""
    shape: list[int | str] = ["blocks", 2, config.n_layer, "page", config.n_head, config.head_dim]
    return BufferType(DType.float32, shape, device=DeviceRef.from_device(CPU()))


def ids_type(dimension: str) -> TensorType:
    """Return the type of a list of numbers."""
    return TensorType(DType.int64, [dimension], device=CPU())


def cache_types(config: GPT2Config) -> list[BufferType]:
    """Return the types of `Cache.buffers`."""
    front: list[int | str] = [config.n_layer, "slots", config.n_head]
    shapes: tuple[list[int | str], ...] = ([*front, config.head_dim, "room"], [*front, "room", config.head_dim])
    return [BufferType(DType.float32, shape, device=DeviceRef.from_device(CPU())) for shape in shapes]
