import numpy as np
import pytest
import torch
from max.driver import CPU, Buffer
from max.dtype import DType
from max.experimental import compilation
from max.experimental.tensor import Tensor, default_device, default_dtype
from max.graph import TensorType
from transformers.activations import ACT2FN

from max_gpt2.config import ACTIVATIONS
from max_gpt2.model.activations import FUNCTIONS

#: From far below to far above 0, so that the two forms of GELU are told apart (they differ by up to 5e-4 near 2).
POINTS = np.linspace(-8, 8, 1001, dtype=np.float32)


def all_of_them(x: Tensor) -> tuple[Tensor, ...]:
    return tuple(FUNCTIONS[name](x) for name in ACTIVATIONS)


@pytest.fixture(scope="module")
def values() -> dict[str, np.ndarray]:
    """Every activation function at POINTS, from one graph."""
    with default_device(CPU()), default_dtype(DType.float32):
        run = compilation.compile(all_of_them)(TensorType(DType.float32, ["points"], device=CPU()))
    outputs = run.execute_raw(Buffer.from_numpy(POINTS))
    return {name: output.to_numpy() for name, output in zip(ACTIVATIONS, outputs, strict=True)}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_that_of_transformers(name: str, values: dict[str, np.ndarray]) -> None:
    expected = ACT2FN[name](torch.from_numpy(POINTS)).numpy()
    np.testing.assert_allclose(values[name], expected, rtol=0, atol=3e-6)
