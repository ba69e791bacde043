"""The table of a model's weights and sizes that the kernels read, and weights as the kernels take them.

A compiled graph contains no weights: it finds them by their addresses, in the types in which they are stored.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
from max.driver import Buffer

from max_gpt2.config import ACTIVATIONS, Activation, GPT2Config
from max_gpt2.weights import CONV1D, LM_HEAD, TYPES, WTE, Quantised, Weight, Weights
from max_gpt2.weights.quantise import FLOATS

_NUMBERS = {dtype: TYPES.index(name) for name, dtype in FLOATS.items()}


def type_number(weight: Weight) -> int:
    """Return the number of a weight's type in the kernels; raises TypeError for another dtype."""
    if isinstance(weight, Quantised):
        return TYPES.index(weight.type)
    if weight.dtype not in _NUMBERS:
        raise TypeError(f"a weight is {weight.dtype}, which the kernels do not read")
    return _NUMBERS[weight.dtype]


def activation_number(function: str) -> int:
    """Return the number of an activation function, by one of Hugging Face's names, in the kernels."""
    return get_args(Activation).index(ACTIVATIONS[function])


def as_bytes(weight: Weight) -> np.ndarray:
    """Return the bytes of a weight without copying: [rows, row_bytes] of a matrix in rows, else [bytes]."""
    if isinstance(weight, Quantised):
        return weight.data
    if not weight.flags.c_contiguous:
        raise ValueError("a weight is not contiguous")
    return weight.view(np.uint8)


@dataclass(frozen=True)
class ModelTable:
    """The first inputs of a graph; `kernels/transformer.mojo` describes the table. It keeps the weights alive."""

    config: GPT2Config
    weights: Weights
    one_cache: bool = False

    def buffers(self) -> list[Buffer]:
        """Return the table, [entries] of int64, `ln_f.weight` [n_embd], and the head [vocab, row_bytes] as bytes.

        With `one_cache`, all layers use the cache of the first, one after the other: enough for sequences that are
        computed in one call.
        """
        entries = np.array([*self._header(), *self._layers()], dtype=np.int64)
        arrays = entries, self._vector("transformer.ln_f.weight"), as_bytes(self.weights[LM_HEAD])
        return [Buffer.from_numpy(array) for array in arrays]

    def _header(self) -> list[int]:
        config, wte = self.config, self.weights[WTE]
        sizes = [type_number(self.weights[LM_HEAD]), config.n_layer, config.intermediate_size]
        wpe, bias = (_address(self._vector(f"transformer.{name}")) for name in ("wpe.weight", "ln_f.bias"))
        embeddings = _address(as_bytes(wte)), type_number(wte), wpe, bias
        return [*sizes, _bits(config.layer_norm_epsilon), *embeddings, activation_number(config.activation_function)]

    def _layers(self) -> Iterator[int]:
        for layer in range(self.config.n_layer):
            block = f"transformer.h.{layer}"
            for norm in ("ln_1", "ln_2"):
                yield from (_address(self._vector(f"{block}.{norm}.{part}")) for part in ("weight", "bias"))
            for name in CONV1D:
                weight = self.weights[f"{block}.{name}"]
                yield from (_address(as_bytes(weight)), type_number(weight))
                yield _address(self._vector(f"{block}.{name.replace('weight', 'bias')}"))
            yield _bits(self.config.attention_scale(layer))
            yield 0 if self.one_cache else layer

    def _vector(self, name: str) -> np.ndarray:
        """Return a weight that the kernels read as float32 only."""
        value = self.weights[name]
        if isinstance(value, Quantised) or value.dtype != np.float32 or not value.flags.c_contiguous:
            raise TypeError(f"{name} is not contiguous float32")
        return value


def _address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def _bits(value: float) -> int:
    """Return the bits of a float32."""
    return int(np.float32(value).view(np.int32))
