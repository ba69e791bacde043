"""Compiled models, and the sessions that hold their key-value caches."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np
from max.driver import Buffer

from max_gpt2.config import GPT2Config, Kernels
from max_gpt2.model.batch import MAX_SEQUENCES, RaggedBatch, extra_inputs
from max_gpt2.model.kv_cache import KVCache
from max_gpt2.weights import Weights

#: A compiled graph: takes one buffer for each input and returns one for each output.
Run = Callable[..., list[Buffer]]

#: The suffixes of the hidden states of a block: its four layers and, without a suffix, its output.
BLOCK_STATES = (".ln_1", ".attn", ".ln_2", ".mlp", "")


def state_names(n_layer: int) -> list[str]:
    """Return the names of all hidden states: "embeddings", "h.0.ln_1", ..., "h.0" (the block's output), ..., "ln_f"."""
    blocks = [f"h.{layer}{part}" for layer in range(n_layer) for part in BLOCK_STATES]
    return ["embeddings", *blocks, "ln_f"]


class Session:
    """Sequences that grow token by token, each in its own cache slot; `lengths` [slots] has their lengths."""

    def __init__(self, config: GPT2Config, kernels: Kernels, run: Run, slots: int, capacity: int) -> None:
        """Start with empty slots of `capacity` tokens; use `CompiledModel.session` to create one."""
        self.lengths = np.zeros(slots, dtype=np.int64)
        self._cache = KVCache(config, slots, capacity, kernels)
        self._kernels: Kernels = kernels
        self._run = run

    def extend(self, new_tokens: Mapping[int, Sequence[int]], num_logits: int | None = 1) -> list[np.ndarray]:
        """Append at least one id to each given slot and return the logits of its last `num_logits` new tokens.

        None returns the logits of all new tokens. Each array is [rows, vocab] of float32, in the order of
        `new_tokens`. Neither the capacity of the session nor that ids are below `vocab_size` is checked.
        """
        slots, size = list(new_tokens), MAX_SEQUENCES[self._kernels] or len(new_tokens)
        logits: list[np.ndarray] = []
        for start in range(0, len(slots), size):
            logits += self._extend({slot: new_tokens[slot] for slot in slots[start : start + size]}, num_logits)
        return logits

    def _extend(self, new_tokens: dict[int, Sequence[int]], num_logits: int | None) -> list[np.ndarray]:
        batch = RaggedBatch.of(new_tokens, self.lengths, num_logits)
        inputs = [Buffer.from_numpy(array) for array in batch.arrays]
        extra = [Buffer.from_numpy(array) for array in extra_inputs(self._kernels, batch)]
        (logits,) = self._run(*inputs, *self._cache.buffers, *extra)
        counts = list(map(len, new_tokens.values()))
        self.lengths[batch.slots] += counts
        rows = counts if num_logits is None else [min(count, num_logits) for count in counts]
        found = logits.to_numpy()
        return [found[end - count : end] for count, end in zip(rows, accumulate(rows), strict=True)]

    def copy(self, source: int, target: int, length: int) -> None:
        """Set slot `target` to the first `length` tokens of slot `source`, which may have been cleared."""
        if source != target:
            self._cache.copy(source, target, length)
        self.lengths[target] = length

    def clear(self, slot: int) -> None:
        """Remove the sequence from a slot."""
        self.lengths[slot] = 0


@dataclass(frozen=True)
class CompiledModel:
    """A compiled model on the CPU in float32. It is stateless; its sessions hold the state.

    `run` takes the arrays of `RaggedBatch` and `KVCache.buffers` and returns the logits. It uses `weights` in place.
    """

    config: GPT2Config
    kernels: Kernels
    run: Run
    weights: Weights

    def logits(self, input_ids: np.ndarray, first: int = 0) -> np.ndarray:
        """Return the logits from position `first` on: [batch, seq] of int64 -> [batch, seq - first, vocab] float32.

        Ids must be below `vocab_size` and seq at most `n_positions`: the graph does not check them.
        """
        batch, seq = input_ids.shape
        rows = self.session(batch, seq).extend(dict(enumerate(input_ids.tolist())), num_logits=seq - first)
        return np.stack(rows)

    def session(self, slots: int, capacity: int) -> Session:
        """Create a session of `slots` sequences of at most `capacity` tokens (at most `n_positions`) each."""
        return Session(self.config, self.kernels, self.run, slots, capacity)


class HiddenStates(Protocol):
    """A compiled model that returns all hidden states of a sequence."""

    def hidden_states(self, tokens: Sequence[int]) -> dict[str, np.ndarray]:
        """Return the hidden states of a sequence by the names of `state_names`: [seq, n_embd] each.

        Ids must be below `vocab_size` and seq at most `n_positions`: the graph does not check them.
        """
        ...

    def wte(self) -> np.ndarray:
        """Return the token embeddings as the graph reads them: [vocab, n_embd]."""
        ...


@dataclass(frozen=True)
class HiddenStatesModel:
    """A model of MAX's own operations that returns all hidden states."""

    config: GPT2Config
    run: Run

    def hidden_states(self, tokens: Sequence[int]) -> dict[str, np.ndarray]:
        """See `HiddenStates`."""
        _, *states = self._outputs(np.zeros(1, dtype=np.int64), tokens)
        return dict(zip(state_names(self.config.n_layer), states, strict=True))

    def wte(self) -> np.ndarray:
        """See `HiddenStates`."""
        return self._outputs(np.arange(self.config.vocab_size), [0])[0]

    def _outputs(self, rows: np.ndarray, tokens: Sequence[int]) -> list[np.ndarray]:
        batch = RaggedBatch.of({0: tokens}, np.zeros(1, dtype=np.int64), num_logits=1)
        arrays = (rows, *batch.arrays[:-1])
        extra = extra_inputs("builtin", batch)
        cache = KVCache(self.config, 1, len(tokens), "builtin")
        outputs = self.run(*map(Buffer.from_numpy, arrays), *cache.buffers, *map(Buffer.from_numpy, extra))
        return [output.to_numpy() for output in outputs]
