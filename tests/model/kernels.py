"""Small graphs that run single kernels or one transformer block, called with numpy arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
from max_gpt2.model.ops_mojo import MojoOps
from max_gpt2.model.transformer import Block

ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)


class Layers(Module[..., tuple[Tensor, ...]]):
    """All operations except attention, each on inputs of its own."""

    def __init__(self, ops: Ops) -> None:
        self.ops = ops

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor, ids: Tensor, positions: Tensor, *scoring: Tensor
    ) -> tuple[Tensor, ...]:
        """[tokens, in], [in, out], [out], [ids], [ids] -> the fields of `LayerOutputs`.

        `scoring` are the targets [tokens], the mask [out] and `best` [top] of `MojoOps.token_scores`. MAX has no such
        operation.
        """
        ops = self.ops
        row = bias.reshape([1, bias.shape[0]])
        head = weight.transpose(0, 1) + row.transpose(0, 1)
        return (
            *(ops.linear(x, weight, bias, activation) for activation in ACTIVATIONS),
            ops.layer_norm(x @ weight, bias, bias * 2, 3e-2),
            ops.logits(x, head),
            ops.embed(ids, positions, weight, weight * 3),
            *(ops.token_scores(x, head, *scoring) if isinstance(ops, MojoOps) else ()),
        )


@dataclass
class LayerOutputs:
    """The outputs of `Layers`; those of MAX's operations end with `embed`."""

    linear: dict[str, np.ndarray]
    layer_norm: np.ndarray
    logits: np.ndarray
    embed: np.ndarray
    sums: np.ndarray = field(default_factory=lambda: np.zeros(0))
    ranks: np.ndarray = field(default_factory=lambda: np.zeros(0))
    top_ids: np.ndarray = field(default_factory=lambda: np.zeros(0))
    top_logprobs: np.ndarray = field(default_factory=lambda: np.zeros(0))


class CompiledLayers:
    """`Layers`, called with numpy arrays."""

    def __init__(self, kernels: Kernels) -> None:
        shapes = [["tokens", "in"], ["in", "out"], ["out"]]
        types = [TensorType(DType.float32, shape, device=CPU()) for shape in shapes]
        types += [int64_type("ids"), int64_type("ids"), int64_type("tokens")]
        types += [TensorType(DType.float32, ["out"], device=CPU()), int64_type("top")]
        chosen = make_ops(kernels)
        self.run = compile_for_cpu(lambda: Layers(chosen), types, {}, chosen)

    def __call__(self, *inputs: np.ndarray) -> LayerOutputs:
        outputs = [output.to_numpy() for output in self.run.execute_raw(*map(Buffer.from_numpy, inputs))]
        return LayerOutputs(dict(zip(ACTIVATIONS, outputs, strict=False)), *outputs[len(ACTIVATIONS) :])


class Attention(Module[..., Tensor]):
    """The Mojo attention kernel. MAX's attention runs as part of the whole model only."""

    def forward(self, qkv: Tensor, layer: Tensor, scale: Tensor, *cache: Tensor) -> Tensor:
        """[tokens, 3 * n_embd] -> [tokens, n_embd]."""
        return make_ops("mojo").attention(qkv, layer, scale, *cache)


class CompiledAttention:
    """`Attention`, called with numpy arrays; the last two, keys and values, are updated in place."""

    def __init__(self) -> None:
        batch = [TensorType(DType.int64, [name], device=CPU()) for name in ("row_offsets", "batch", "batch")]
        buffers = [
            BufferType(DType.float32, ["n_layer", "slots", "n_head", *rest], device=DeviceRef.CPU())
            for rest in (["head_dim", "capacity"], ["capacity", "head_dim"])
        ]
        first: list[Any] = [
            TensorType(DType.float32, ["tokens", "width"], device=CPU()),
            TensorType(DType.int64, [], device=CPU()),
            TensorType(DType.float32, [], device=CPU()),
        ]
        self.run = compile_for_cpu(Attention, [*first, *batch, *buffers], {}, make_ops("mojo"))

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        return self.run.execute_raw(*map(Buffer.from_numpy, inputs))[0].to_numpy()


class BlockAndParts(Module[..., tuple[Tensor, ...]]):
    """A block as the one operation that generation runs, and as the separate operations that `verify` runs."""

    def __init__(self, config: GPT2Config, ops: MojoOps) -> None:
        self.block = Block(config, ops)
        self.ops = ops

    def forward(
        self, x: Tensor, logits_indices: Tensor, layer: Tensor, scale: Tensor, *cache: Tensor
    ) -> tuple[Tensor, ...]:
        """Return the block's output, the separate operations' output, and logits of the block's output.

        [tokens, n_embd], [rows] of int64, and the other inputs of `Attention` -> [rows, n_embd], [tokens, n_embd],
        [rows, n_inner], and its token scores with the indices as targets. The head takes the block's c_proj weight for
        an embedding, [n_inner, n_embd].
        """
        output = self.block(x, logits_indices, layer, scale, *cache)
        embedding = self.block.mlp.c_proj.weight
        logits = self.ops.logits(output, embedding)
        states = self.block.hidden_states(x, layer, scale, *cache)
        mask = embedding[:, 0].reshape([embedding.shape[0]])
        return (
            output,
            states[-1],
            logits,
            *self.ops.token_scores(output, embedding, logits_indices, mask, logits_indices),
        )


class CompiledBlock:
    """`BlockAndParts`, called with numpy arrays; the last two, keys and values, are updated in place."""

    def __init__(
        self, config: GPT2Config, weights: dict[str, np.ndarray], extensions: Sequence[Path] | None = None
    ) -> None:
        chosen = MojoOps()
        if extensions is not None:
            chosen.extensions = extensions
        types: list[Any] = [
            TensorType(DType.float32, ["tokens", config.n_embd], device=CPU()),
            int64_type("logits_indices"),
            TensorType(DType.int64, [], device=CPU()),
            TensorType(DType.float32, [], device=CPU()),
            *(int64_type(name) for name in ("row_offsets", "batch", "batch")),
            *cache_types(config),
        ]
        named = {f"block.{name}": array for name, array in weights.items()}
        self.run = compile_for_cpu(lambda: BlockAndParts(config, chosen), types, named, chosen)

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        return [output.to_numpy() for output in self.run.execute_raw(*map(Buffer.from_numpy, inputs))]
