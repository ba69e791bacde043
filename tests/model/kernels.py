"""A graph of nothing but the kernels, for numbers of every size."""

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from max.experimental.nn import Module
from max.experimental.tensor import Tensor
from max.graph import BufferType, DeviceRef, TensorType

from max_gpt2.config import Activation, GPT2Config, Kernels
from max_gpt2.model.batch import cache_types, int64_type
from max_gpt2.model.compile import compile_for_cpu, make_ops
from max_gpt2.model.ops import Ops
from max_gpt2.model.transformer import Block

ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)


class Layers(Module[..., tuple[Tensor, ...]]):
    """Every operation but the attention, each on inputs of its own."""

    def __init__(self, operations: Ops) -> None:
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
        chosen = make_ops(kernels)
        self.run = compile_for_cpu(lambda: Layers(chosen), types, {}, chosen)

    def __call__(self, *inputs: np.ndarray) -> Found:
        outputs = [one.to_numpy() for one in self.run.execute_raw(*map(Buffer.from_numpy, inputs))]
        return Found(dict(zip(ACTIVATIONS, outputs, strict=False)), *outputs[len(ACTIVATIONS) :])


class Attention(Module[..., Tensor]):
    """Our own attention; that of MAX goes with the whole model only."""

    def forward(self, qkv: Tensor, layer: Tensor, scale: Tensor, *cache: Tensor) -> Tensor:
        """[tokens, 3 * n_embd] -> [tokens, n_embd]."""
        return make_ops("mojo").attention(qkv, layer, scale, *cache)


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
        self.run = compile_for_cpu(Attention, [*first, *numbers, *buffers], {}, make_ops("mojo"))

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        return self.run.execute_raw(*map(Buffer.from_numpy, inputs))[0].to_numpy()


class TwoWays(Module[..., tuple[Tensor, ...]]):
    """A block in one go, as texts are written, and the same part by part, as `verify` looks at it."""

    def __init__(self, config: GPT2Config) -> None:
        self.block = Block(config, make_ops("mojo"))

    def forward(self, x: Tensor, indices: Tensor, layer: Tensor, scale: Tensor, *cache: Tensor) -> tuple[Tensor, ...]:
        """[tokens, n_embd], [kept] of int64, and what `Attention` wants -> [kept, n_embd], [tokens, n_embd]."""
        return self.block(x, indices, layer, scale, *cache), self.block.hidden_states(x, layer, scale, *cache)[-1]


class CompiledTwoWays:
    """`TwoWays`, called with numpy's arrays, the last two of which it changes."""

    def __init__(self, config: GPT2Config, weights: dict[str, np.ndarray]) -> None:
        types: list[Any] = [
            TensorType(DType.float32, ["tokens", config.n_embd], device=CPU()),
            int64_type("kept"),
            TensorType(DType.int64, [], device=CPU()),
            TensorType(DType.float32, [], device=CPU()),
            *(int64_type(name) for name in ("offsets", "texts", "texts")),
            *cache_types(config),
        ]
        named = {f"block.{name}": array for name, array in weights.items()}
        self.run = compile_for_cpu(lambda: TwoWays(config), types, named, make_ops("mojo"))

    def __call__(self, *inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        in_one_go, part_by_part = self.run.execute_raw(*map(Buffer.from_numpy, inputs))
        return in_one_go.to_numpy(), part_by_part.to_numpy()
