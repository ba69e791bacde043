"""A graph of nothing but the kernels, for numbers of every size."""

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from max.experimental.nn import Module
from max.experimental.tensor import Tensor
from max.graph import BufferType, DeviceRef, TensorType

from max_gpt2.config import Activation, GPT2Config
from max_gpt2.model.batch import Kernels, cache_types, ids_type
from max_gpt2.model.compile import compile_for_cpu
from max_gpt2.model.ops import Operations, operations
from max_gpt2.model.transformer import Block

ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)


class Layers(Module[..., tuple[Tensor, ...]]):
    """Every operation but the attention, each on inputs of its own."""

    def __init__(self, operations: Operations) -> None:
        self.operations = operations

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor, ids: Tensor, positions: Tensor) -> tuple[Tensor, ...]:
        """[tokens, in], [in, out], [out], [ids], [ids] -> what `Found` has."""
        op = self.operations
        line = bias.reshape([1, bias.shape[0]])
        return (
            *(op.linear(x, weight, bias, activation) for activation in ACTIVATIONS),
            op.layer_norm(x @ weight, bias, bias * 2, 3e-2),
            op.logits(x, weight.transpose(0, 1) + line.transpose(0, 1)),
            op.embed(ids, positions, weight, weight * 3),
        )


@dataclass
class Found:
    """What `Layers` returned."""

    linear: dict[str, np.ndarray]
    layer_norm: np.ndarray
    logits: np.ndarray
    embed: np.ndarray


class CompiledLayers:
    """`Layers`, called with numpy's arrays."""

    def __init__(self, kernels: Kernels) -> None:
        floats = [["tokens", "in"], ["in", "out"], ["out"]]
        types = [TensorType(DType.float32, shape, device=CPU()) for shape in floats]
        types += [TensorType(DType.int64, ["ids"], device=CPU())] * 2
        chosen = operations(kernels)
        self.run = compile_for_cpu(lambda: Layers(chosen), types, {}, chosen)

    def __call__(self, *inputs: np.ndarray) -> Found:
        outputs = [one.to_numpy() for one in self.run.execute_raw(*map(Buffer.from_numpy, inputs))]
        return Found(dict(zip(ACTIVATIONS, outputs, strict=False)), *outputs[len(ACTIVATIONS) :])


class Attention(Module[..., Tensor]):
    """Our own attention; that of MAX goes with the whole model only."""

    def forward(self, qkv: Tensor, layer: Tensor, scale: Tensor, *texts: Tensor) -> Tensor:
        """[tokens, 3 * n_embd] -> [tokens, n_embd]."""
        return operations("mojo").attention(qkv, layer, scale, *texts)


class CompiledAttention:
    """`Attention`, called with numpy's arrays, the last two of which it changes."""

    def __init__(self) -> None:
        numbers = [TensorType(DType.int64, [name], device=CPU()) for name in ("offsets", "texts", "texts")]
        buffers = [
            BufferType(DType.float32, ["n_layer", "slots", "n_head", *rest], device=DeviceRef.CPU())
            for rest in (["head_dim", "room"], ["room", "head_dim"])
        ]
        first: list[Any] = [
            TensorType(DType.float32, ["tokens", "width"], device=CPU()),
            TensorType(DType.int64, [], device=CPU()),
            TensorType(DType.float32, [], device=CPU()),
        ]
        self.run = compile_for_cpu(Attention, [*first, *numbers, *buffers], {}, operations("mojo"))

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        return self.run.execute_raw(*map(Buffer.from_numpy, inputs))[0].to_numpy()


class TwoWays(Module[..., tuple[Tensor, ...]]):
    """A block in one go, as texts are written, and the same part by part, as `verify` looks at it."""

    def __init__(self, config: GPT2Config) -> None:
        self.block = Block(config, operations("mojo"))

    def forward(self, x: Tensor, kept: Tensor, *attending: Tensor) -> tuple[Tensor, ...]:
        """[tokens, n_embd], [kept] of int64, and what `Attention` wants -> [kept, n_embd], [tokens, n_embd]."""
        return self.block(x, kept, *attending), self.block.states(x, *attending)[-1]


class CompiledTwoWays:
    """`TwoWays`, called with numpy's arrays, the last two of which it changes."""

    def __init__(self, config: GPT2Config, weights: dict[str, np.ndarray]) -> None:
        types: list[Any] = [
            TensorType(DType.float32, ["tokens", config.n_embd], device=CPU()),
            ids_type("kept"),
            TensorType(DType.int64, [], device=CPU()),
            TensorType(DType.float32, [], device=CPU()),
            *(ids_type(name) for name in ("offsets", "texts", "texts")),
            *cache_types(config),
        ]
        named = {f"block.{name}": array for name, array in weights.items()}
        self.run = compile_for_cpu(lambda: TwoWays(config), types, named, operations("mojo"))

    def __call__(self, *inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        in_one_go, part_by_part = self.run.execute_raw(*map(Buffer.from_numpy, inputs))
        return in_one_go.to_numpy(), part_by_part.to_numpy()
