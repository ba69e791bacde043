import numpy as np
import pytest
import torch
from transformers.activations import ACT2FN

from max_gpt2.config import ACTIVATIONS
from tests.model.kernels import BuiltinLayers, CompiledLayers, LayerInputs, LayerOutputs

#: From far below to far above 0. The two forms of GELU differ by up to 5e-4 near 2.
POINTS = np.concatenate([np.linspace(-8, 8, 1001), [-1e4, -100, -20, 20, 100, 1e4]]).astype(np.float32)


@pytest.fixture(scope="module", params=["mojo", pytest.param("builtin", marks=pytest.mark.slow)])
def outputs(request: pytest.FixtureRequest) -> LayerOutputs:
    """Every activation function at POINTS, with the Mojo kernels and with MAX's operations."""
    one, none, first = np.ones((1, 1), np.float32), np.zeros(1, np.float32), np.zeros(1, np.int64)
    points, targets = POINTS[:, None], np.zeros(len(POINTS), np.int64)
    layers = CompiledLayers() if request.param == "mojo" else BuiltinLayers()
    return layers(LayerInputs(points, one, none, one, points, first, first, one, targets, none, first))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_matches_transformers(name: str, outputs: LayerOutputs) -> None:
    expected = ACT2FN[name](torch.from_numpy(POINTS)).numpy()
    np.testing.assert_allclose(outputs.linear[ACTIVATIONS[name]][:, 0], expected, rtol=3e-6, atol=3e-6)
