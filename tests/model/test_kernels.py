"""The kernels at sizes that fit no vector, tile or block, beside PyTorch; and that a row never minds its neighbours."""

import numpy as np
import pytest
import torch
from torch.nn.functional import layer_norm

from max_gpt2.config import GPT2Config
from tests.model.kernels import CompiledAttention, CompiledLayers, CompiledTwoWays

#: (in, out): one element, less than a vector, a bit more than some vectors, than some blocks.
SIZES = [(1, 1), (5, 3), (24, 37), (300, 70), (530, 1089)]
#: Both ways to multiply, and the places where one goes over into the other.
TOKENS = [1, 2, 8, 13, 28, 29, 33, 48, 65, 128, 251, 277]


@pytest.fixture(scope="module")
def layers() -> CompiledLayers:
    return CompiledLayers("mojo")


@pytest.fixture(scope="module")
def attention() -> CompiledAttention:
    return CompiledAttention()


def inputs(tokens: int, width: int, out: int) -> list[np.ndarray]:
    random = np.random.default_rng(width)
    x, weight, bias = (random.standard_normal(shape, np.float32) for shape in ((300, width), (width, out), out))
    ids = random.integers(0, width, (2, 300))
    return [x[:tokens], weight / np.float32(width**0.5), bias, ids[0, :tokens], ids[1, :tokens]]


@pytest.mark.parametrize(("width", "out"), SIZES)
@pytest.mark.parametrize("tokens", TOKENS)
def test_the_layers_are_those_of_pytorch(layers: CompiledLayers, tokens: int, width: int, out: int) -> None:
    arrays = inputs(tokens, width, out)
    found = layers(*arrays)
    x, weight, bias = (torch.from_numpy(array).double() for array in arrays[:3])
    expected = {
        "linear": (found.linear["none"], x @ weight + bias),
        "layer_norm": (found.layer_norm, layer_norm(x @ weight, [out], bias, bias * 2, 3e-2)),
        "logits": (found.logits, x @ (weight + bias)),
        "embed": (found.embed, weight[arrays[3]] + 3 * weight[arrays[4]]),
    }
    for name, (ours, theirs) in expected.items():
        # Logits are sums of 530 products of the size of one: with AVX2 in longer chains than with AVX-512.
        atol = 4e-5 if name == "logits" else 2e-5
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-5, atol=atol, err_msg=name)


@pytest.mark.parametrize(("width", "out"), SIZES)
def test_a_row_has_the_same_bits_alone_and_among_others(layers: CompiledLayers, width: int, out: int) -> None:
    all_rows = layers(*inputs(277, width, out))
    for tokens in TOKENS:
        found = layers(*inputs(tokens, width, out))
        for name, values in found.linear.items():
            np.testing.assert_array_equal(values, all_rows.linear[name][:tokens], err_msg=f"{name}, {tokens}")
        np.testing.assert_array_equal(found.layer_norm[:, :1], all_rows.layer_norm[:tokens, :1])
        np.testing.assert_array_equal(found.logits, all_rows.logits[:tokens])


@pytest.mark.parametrize("dim", [1, 8, 20, 64, 84])
@pytest.mark.parametrize("pieces", [[1], [5], [17, 1, 1], [200, 1], [100, 130]])
def test_attention_is_that_of_pytorch(attention: CompiledAttention, dim: int, pieces: list[int]) -> None:
    """Three texts, of which the second has these pieces and the others parts of them, in slots out of order."""
    n_head, texts, slots, scale = 3, 3, np.array([4, 0, 2]), np.float32(0.3)
    random = np.random.default_rng(dim)
    keys = random.standard_normal((2, 5, n_head, dim, 320), np.float32)
    values = random.standard_normal((2, 5, n_head, 320, dim), np.float32)
    untouched = [keys.copy(), values.copy()]
    qkv = [np.zeros((0, 3, n_head, dim), np.float32)] * texts
    for piece in pieces:
        counts = [max(1, piece // 3), piece, max(1, piece // 2)]
        new = [random.standard_normal((count, 3, n_head, dim), np.float32) for count in counts]
        lengths = np.array([len(one) for one in qkv])
        offsets = np.concatenate([[0], np.cumsum(counts)])
        flat = np.concatenate(new).reshape(-1, 3 * n_head * dim)
        found = attention(flat, np.array(1), np.array(scale), offsets, lengths, slots, keys, values)
        qkv = [np.concatenate(both) for both in zip(qkv, new, strict=True)]
        for text in range(texts):
            expected = reference(qkv[text], float(scale))[lengths[text] :]
            ours = found[offsets[text] : offsets[text + 1]]
            np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5, err_msg=f"text {text}, {lengths[text]}")
    for ours, before in zip((keys, values), untouched, strict=True):
        np.testing.assert_array_equal(ours[0], before[0])  # the other layer
        np.testing.assert_array_equal(ours[1, [1, 3]], before[1, [1, 3]])  # the slots of other texts


def reference(qkv: np.ndarray, scale: float) -> np.ndarray:
    """Causal attention in float64: [seq, 3, n_head, dim] -> [seq, n_head * dim]."""
    query, key, value = torch.from_numpy(qkv).double().permute(1, 2, 0, 3)
    hidden = torch.full((len(qkv), len(qkv)), float("-inf"), dtype=torch.float64).triu(1)
    mixed = torch.softmax(query @ key.mT * scale + hidden, dim=-1) @ value
    return mixed.transpose(0, 1).reshape(len(qkv), -1).numpy()


#: More than a slice of 256 columns has, at whose end a vector of the last head is cut in two.
N_EMBD, N_HEAD, N_INNER = 273, 3, 530


@pytest.fixture(scope="module")
def two_ways() -> CompiledTwoWays:
    width, inner = N_EMBD, N_INNER
    config = GPT2Config(
        n_embd=width, n_head=N_HEAD, n_layer=2, n_inner=inner, activation_function="relu", layer_norm_epsilon=1e-2
    )
    random = np.random.default_rng(0)
    shapes = {"attn.c_attn": (width, 3 * width), "attn.c_proj": (width, width)}
    shapes |= {"mlp.c_fc": (width, inner), "mlp.c_proj": (inner, width)}
    sizes: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in shapes.items()}
    sizes |= {f"{name}.bias": (shape[1],) for name, shape in shapes.items()}
    sizes |= {f"{name}.{part}": (width,) for name in ("ln_1", "ln_2") for part in ("weight", "bias")}
    return CompiledTwoWays(config, {name: random.standard_normal(size, np.float32) for name, size in sizes.items()})


@pytest.mark.parametrize("counts", [[1], [1] * 8, [5, 1, 17], [33], [200, 1, 80]])
def test_a_block_in_one_go_has_the_bits_of_its_parts(two_ways: CompiledTwoWays, counts: list[int]) -> None:
    """What is part by part is held against transformers by the tests of `verify`."""
    random = np.random.default_rng(len(counts))
    texts = len(counts)
    dim = N_EMBD // N_HEAD
    x = random.standard_normal((sum(counts), N_EMBD), np.float32)
    keys = random.standard_normal((2, texts + 1, N_HEAD, dim, 320), np.float32)
    values = random.standard_normal((2, texts + 1, N_HEAD, 320, dim), np.float32)
    lengths, slots = random.integers(0, 100, texts), random.permutation(texts + 1)[:texts]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    every = np.arange(sum(counts))
    for kept in (every, offsets[1:] - 1, every[len(every) // 3 :], every[::2]):
        for _ in range(3):  # threads meet in another order each time
            rest = np.array(1), np.array(0.3, np.float32), offsets, lengths, slots, keys, values
            found, expected = two_ways(x, kept, *rest)
            np.testing.assert_array_equal(found, expected[kept])
            assert np.abs(found - x[kept]).min(axis=1).max() > 0
