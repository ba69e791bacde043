"""The transformer one operation at a time, so that every activation can be read and replaced.

The operations are the same kernels as in the compiled model, and results that nobody replaces are bitwise the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from max.driver import Buffer

from max_gpt2.config import GPT2Config
from max_gpt2.model.batch import RaggedBatch, causal_mask
from max_gpt2.model.kv_cache import KVCache, transposed_keys
from max_gpt2.model.session import Run, state_names
from max_gpt2.model.table import activation_number, as_bytes, type_number
from max_gpt2.weights import LM_HEAD, WPE, WTE, Weight, Weights, float32


class Tap(Protocol):
    """Sees activations as they are computed, and may replace them."""

    def wants(self, name: str) -> bool:
        """Return whether the tap wants to see an activation, which may be computed for it only."""
        ...

    def see(self, name: str, value: np.ndarray) -> np.ndarray:
        """Return an activation, [tokens, ...], or another array of the same shape in its place."""
        ...

    def see_pattern(self, name: str, sequence: int, value: np.ndarray) -> np.ndarray:
        """Return the attention of one sequence of the batch, [n_head, tokens, keys], or another array in its place."""
        ...


@dataclass(frozen=True)
class Stages:
    """The operations of a transformer with its weights, on arrays of float32.

    `graphs` are the "stages" of `max_gpt2.model.compile`, and `weights` is canonical.
    """

    config: GPT2Config
    graphs: Mapping[str, Run]
    weights: Weights

    def embed(self, ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Add token and position embeddings: [tokens] of int64, twice -> [tokens, n_embd]."""
        wpe = self.float32(WPE)
        return self._call("embed", ids, positions, *_typed(self.weights[WTE]), wpe)

    def layer_norm(self, x: np.ndarray, name: str) -> np.ndarray:
        """Apply a layer norm, such as "h.0.ln_1": [tokens, n_embd] -> [tokens, n_embd]."""
        return self._call("layer_norm", x, *self.layer(name), np.array(self.config.layer_norm_epsilon, np.float32))

    def linear(self, x: np.ndarray, name: str, *, activated: bool = False) -> np.ndarray:
        """Apply a linear layer, such as "h.0.mlp.c_fc", and the activation function: [tokens, in] -> [tokens, out]."""
        weight, bias = self.weights[f"transformer.{name}.weight"], self.float32(f"transformer.{name}.bias")
        function = activation_number(self.config.activation_function) if activated else 0
        numbers = np.array([type_number(weight), function])
        return self._call("linear", x, as_bytes(weight).reshape(-1), numbers, bias)

    def attention(self, qkv: np.ndarray, layer: int, batch: RaggedBatch, cache: list[Buffer]) -> np.ndarray:
        """Apply causal attention and store keys and values in the cache: [tokens, 3 * n_embd] -> [tokens, n_embd]."""
        scalars = np.array(layer, np.int64), np.array(self.config.attention_scale(layer), np.float32)
        arrays = qkv, *scalars, batch.row_offsets, batch.cache_lengths, batch.slots
        return self._call("attention", *arrays, cache=cache)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Return the logits: [rows, n_embd] -> [rows, vocab]."""
        return self._call("logits", x, *_typed(self.weights[LM_HEAD]))

    def layer(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the weight and the bias of a layer in float32."""
        return self.float32(f"transformer.{name}.weight"), self.float32(f"transformer.{name}.bias")

    def float32(self, name: str) -> np.ndarray:
        """Return a weight by its canonical name, in float32 and in its canonical shape."""
        return float32(self.weights[name])

    def _call(self, graph: str, *arrays: np.ndarray, cache: list[Buffer] | None = None) -> np.ndarray:
        inputs = [Buffer.from_numpy(np.require(array, requirements="C")) for array in arrays]
        (output,) = self.graphs[graph](*inputs, *(cache or ()))
        return output.to_numpy()


def _typed(weight: Weight) -> tuple[np.ndarray, np.ndarray]:
    """Return a weight as bytes, and its type: [1] of int64."""
    return as_bytes(weight), np.array([type_number(weight)])


@dataclass(frozen=True)
class StagedModel:
    """A model that runs in stages and shows activations to a tap.

    The names of activations are those of `max_gpt2.model.state_names` and, for layer N:
    h.N.resid_pre, h.N.resid_mid [tokens, n_embd]; h.N.attn.q, .k, .v, .z [tokens, n_head, head_dim];
    h.N.mlp.pre, h.N.mlp.post [tokens, intermediate_size]; and "logits" [rows, vocab]. For each sequence,
    h.N.attn.scores (scaled and masked) and h.N.attn.pattern are [n_head, tokens, keys].
    """

    stages: Stages

    def forward(self, batch: RaggedBatch, cache: list[Buffer], tap: Tap) -> np.ndarray:
        """Return the logits at `batch.logits_indices`: [rows, vocab]."""
        x = tap.see("embeddings", self.stages.embed(batch.ids, batch.positions))
        for layer in range(self.stages.config.n_layer):
            x = self.block(x, layer, batch, cache, tap)
        x = tap.see("ln_f", self.stages.layer_norm(x, "ln_f"))
        return tap.see("logits", self.stages.logits(x[batch.logits_indices]))

    def block(self, x: np.ndarray, layer: int, batch: RaggedBatch, cache: list[Buffer], tap: Tap) -> np.ndarray:
        """Apply one block: [tokens, n_embd] -> [tokens, n_embd]."""
        stages, name = self.stages, f"h.{layer}"
        x = tap.see(f"{name}.resid_pre", x)
        normed = tap.see(f"{name}.ln_1", stages.layer_norm(x, f"{name}.ln_1"))
        qkv = self._qkv(stages.linear(normed, f"{name}.attn.c_attn"), name, tap)
        z = self._heads(stages.attention(qkv, layer, batch, cache))
        if any(tap.wants(f"{name}.attn.{part}") for part in ("scores", "pattern")):
            z = self._attend(z, qkv, layer, batch, cache, tap)
        z = tap.see(f"{name}.attn.z", z).reshape(len(x), -1)
        attended = tap.see(f"{name}.attn", stages.linear(z, f"{name}.attn.c_proj"))
        x = tap.see(f"{name}.resid_mid", x + attended)
        normed = tap.see(f"{name}.ln_2", stages.layer_norm(x, f"{name}.ln_2"))
        if tap.wants(f"{name}.mlp.pre"):
            tap.see(f"{name}.mlp.pre", stages.linear(normed, f"{name}.mlp.c_fc"))
        hidden = tap.see(f"{name}.mlp.post", stages.linear(normed, f"{name}.mlp.c_fc", activated=True))
        output = tap.see(f"{name}.mlp", stages.linear(hidden, f"{name}.mlp.c_proj"))
        return tap.see(name, x + output)

    def _qkv(self, qkv: np.ndarray, name: str, tap: Tap) -> np.ndarray:
        """Show queries, keys and values: [tokens, 3 * n_embd] -> [tokens, 3 * n_embd]."""
        names = [f"{name}.attn.{part}" for part in "qkv"]
        if not any(map(tap.wants, names)):
            return qkv
        parts = [self._heads(part) for part in np.split(qkv, 3, axis=1)]
        return np.concatenate([tap.see(*one).reshape(len(qkv), -1) for one in zip(names, parts, strict=True)], axis=1)

    def _attend(
        self, z: np.ndarray, qkv: np.ndarray, layer: int, batch: RaggedBatch, cache: list[Buffer], tap: Tap
    ) -> np.ndarray:
        """Show scores and patterns; return `z`, computed anew for the heads whose pattern is replaced."""
        name, scale = f"h.{layer}.attn", self.stages.config.attention_scale(layer)
        keys, values = (buffer.to_numpy()[layer] for buffer in cache)
        queries = self._heads(qkv[:, : len(qkv[0]) // 3])
        z = z.copy()
        for number, slot in enumerate(batch.slots):
            start, stop = batch.row_offsets[number : number + 2]
            before = int(batch.cache_lengths[number])
            total = before + int(stop - start)
            scores = queries[start:stop].transpose(1, 0, 2) @ transposed_keys(keys[slot], total) * np.float32(scale)
            scores += causal_mask(before, int(stop - start))
            if tap.wants(f"{name}.scores"):
                tap.see_pattern(f"{name}.scores", number, scores)
            pattern = softmax(scores)
            seen = tap.see_pattern(f"{name}.pattern", number, pattern)
            for head in range(len(pattern)):
                if seen is not pattern and not np.array_equal(seen[head], pattern[head]):
                    z[start:stop, head] = seen[head] @ values[slot, head, :total]
        return z

    def _heads(self, x: np.ndarray) -> np.ndarray:
        """Split the last axis into heads: [tokens, n_embd] -> [tokens, n_head, head_dim]."""
        return x.reshape(len(x), self.stages.config.n_head, self.stages.config.head_dim)


class _States:
    """A tap that keeps the hidden states of a batch."""

    def __init__(self, n_layer: int) -> None:
        self._names = state_names(n_layer)
        self._found: dict[str, np.ndarray] = {}

    def wants(self, name: str) -> bool:
        return name in self._names

    def see(self, name: str, value: np.ndarray) -> np.ndarray:
        if self.wants(name):
            self._found[name] = value
        return value

    def see_pattern(self, name: str, sequence: int, value: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{name} of sequence {sequence} is not a hidden state")

    def in_order(self) -> dict[str, np.ndarray]:
        """Return the states in the order of `state_names`."""
        return {name: self._found[name] for name in self._names}


@dataclass(frozen=True)
class StagedHiddenStates:
    """A model that returns all hidden states: see `HiddenStates`."""

    stages: Stages

    def hidden_states(self, tokens: Sequence[int]) -> dict[str, np.ndarray]:
        """Return the hidden states of a sequence by the names of `state_names`: [seq, n_embd] each."""
        batch = RaggedBatch.of({0: tokens}, np.zeros(1, dtype=np.int64), num_logits=1)
        tap = _States(self.stages.config.n_layer)
        cache = KVCache(self.stages.config, 1, len(tokens))
        StagedModel(self.stages).forward(batch, cache.buffers, tap)
        return tap.in_order()

    def wte(self) -> np.ndarray:
        """Return the token embeddings as the kernels read them: [vocab, n_embd]."""
        no_position = np.zeros((1, self.stages.config.n_embd), np.float32)
        stages = replace(self.stages, weights={**self.stages.weights, WPE: no_position})
        ids = np.arange(self.stages.config.vocab_size)
        return stages.embed(ids, np.zeros_like(ids))


@dataclass(frozen=True)
class StagedRun:
    """A staged model in the place of a compiled graph: a function of buffers, see `CompiledModel.run`.

    `make_tap` returns the tap for each batch.
    """

    stages: Stages
    make_tap: Callable[[RaggedBatch], Tap]

    def __call__(self, *inputs: Buffer) -> list[Buffer]:
        """Return the logits of the arrays of a `RaggedBatch` and the buffers of a `KVCache`."""
        batch, cache = RaggedBatch(*(one.to_numpy() for one in inputs[:6])), list(inputs[6:])
        return [Buffer.from_numpy(StagedModel(self.stages).forward(batch, cache, self.make_tap(batch)))]


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis."""
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
