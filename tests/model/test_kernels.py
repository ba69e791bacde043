"""Kernels compared with PyTorch at sizes that are no multiple of a vector or block, and their bitwise guarantees."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import layer_norm

from max_gpt2.config import GPT2Config
from max_gpt2.model.ops_mojo import MojoOps
from tests.model.kernels import CompiledAttention, CompiledBlock, CompiledLayers

#: (in, out): one element, less than one vector, slightly more than a few vectors, and than a few blocks.
SIZES = [(1, 1), (5, 3), (24, 37), (300, 70), (530, 1089)]
#: Rows for GEMV and for GEMM, and the counts around the switch between them.
TOKENS = [1, 2, 8, 13, 28, 29, 33, 48, 65, 128, 251, 277]


@pytest.fixture(scope="module")
def layers() -> CompiledLayers:
    return CompiledLayers("mojo")


@pytest.fixture(scope="module")
def attention() -> CompiledAttention:
    return CompiledAttention()


def inputs(tokens: int, width: int, out: int) -> list[np.ndarray]:
    rng = np.random.default_rng(width)
    x, weight, bias = (rng.standard_normal(shape, np.float32) for shape in ((300, width), (width, out), out))
    ids = rng.integers(0, width, (2, 300))
    targets = rng.integers(-1, out, 300)
    mask = (rng.random(out) < 0.5).astype(np.float32)
    mask[0] = 1  # not empty
    layer = [x[:tokens], weight / np.float32(width**0.5), bias, ids[0, :tokens], ids[1, :tokens]]
    return [*layer, targets[:tokens], mask, np.zeros(min(out, 7), np.int64)]


@pytest.mark.parametrize(("width", "out"), SIZES)
@pytest.mark.parametrize("tokens", TOKENS)
def test_token_scores_match_pytorch(layers: CompiledLayers, tokens: int, width: int, out: int) -> None:
    arrays = inputs(tokens, width, out)
    targets, mask, top = arrays[5], torch.from_numpy(arrays[6]).bool(), len(arrays[7])
    outputs = layers(*arrays)
    logits = torch.from_numpy(outputs.logits).double()  # compared with PyTorch above
    logprobs = torch.log_softmax(logits, dim=-1)
    expected = logprobs.gather(1, torch.from_numpy(targets).clamp(min=0)[:, None])[:, 0].numpy()
    entropies = -(logprobs.exp() * logprobs).sum(dim=-1).numpy()
    sums = np.stack([np.where(targets < 0, np.nan, expected), entropies, logprobs[:, mask].logsumexp(-1).numpy()])
    np.testing.assert_allclose(outputs.sums, sums, rtol=0, atol=2e-6)
    above = (logprobs.numpy() > expected[:, None]).sum(axis=1)
    np.testing.assert_array_equal(outputs.ranks, np.where(targets < 0, 0, above + 1))
    best = logprobs.topk(top)
    np.testing.assert_array_equal(outputs.top_ids, best.indices.numpy())
    np.testing.assert_allclose(outputs.top_logprobs, best.values.numpy(), rtol=0, atol=2e-6)


def test_equal_logits_are_ranked_by_id(layers: CompiledLayers) -> None:
    """All logits are zero, so that every id ties; chunks and threads must not change the order."""
    arrays = inputs(5, 24, 1000)
    arrays[0] = np.zeros_like(arrays[0])
    outputs = layers(*arrays)
    np.testing.assert_array_equal(outputs.ranks, arrays[5] + 1)
    np.testing.assert_array_equal(outputs.top_ids, np.tile(np.arange(7), (5, 1)))


def test_logits_that_are_not_finite_have_no_finite_score(layers: CompiledLayers) -> None:
    arrays = inputs(3, 24, 1000)
    arrays[0][0, 3], arrays[0][1, 5] = np.nan, np.inf
    outputs = layers(*arrays)
    assert np.isfinite(outputs.sums[1]).tolist() == [False, False, True]


@pytest.mark.parametrize(("width", "out"), SIZES)
@pytest.mark.parametrize("tokens", TOKENS)
def test_layers_match_pytorch(layers: CompiledLayers, tokens: int, width: int, out: int) -> None:
    arrays = inputs(tokens, width, out)
    outputs = layers(*arrays)
    x, weight, bias = (torch.from_numpy(array).double() for array in arrays[:3])
    expected = {
        "linear": (outputs.linear["none"], x @ weight + bias),
        "layer_norm": (outputs.layer_norm, layer_norm(x @ weight, [out], bias, bias * 2, 3e-2)),
        "logits": (outputs.logits, x @ (weight + bias)),
        "embed": (outputs.embed, weight[arrays[3]] + 3 * weight[arrays[4]]),
    }
    for name, (ours, theirs) in expected.items():
        # Logits sum 530 products of magnitude one; AVX2 has longer chains of additions than AVX-512.
        atol = 4e-5 if name == "logits" else 2e-5
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-5, atol=atol, err_msg=name)


@pytest.mark.parametrize(("width", "out"), SIZES)
def test_row_is_bitwise_identical_alone_and_among_others(layers: CompiledLayers, width: int, out: int) -> None:
    all_rows = layers(*inputs(277, width, out))
    for tokens in TOKENS:
        outputs = layers(*inputs(tokens, width, out))
        for name, values in outputs.linear.items():
            np.testing.assert_array_equal(values, all_rows.linear[name][:tokens], err_msg=f"{name}, {tokens}")
        np.testing.assert_array_equal(outputs.layer_norm[:, :1], all_rows.layer_norm[:tokens, :1])
        np.testing.assert_array_equal(outputs.logits, all_rows.logits[:tokens])
        np.testing.assert_array_equal(outputs.sums, all_rows.sums[:, :tokens])
        np.testing.assert_array_equal(outputs.top_logprobs, all_rows.top_logprobs[:tokens])


@pytest.mark.parametrize("dim", [1, 8, 20, 64, 84])
@pytest.mark.parametrize("steps", [[1], [5], [17, 1, 1], [200, 1], [100, 130]])
def test_attention_matches_pytorch(attention: CompiledAttention, dim: int, steps: list[int]) -> None:
    """Extend three sequences in unordered slots: the second by these steps, the others by fractions of them."""
    n_head, batch, slots, scale = 3, 3, np.array([4, 0, 2]), np.float32(0.3)
    rng = np.random.default_rng(dim)
    keys = rng.standard_normal((2, 5, n_head, dim, 320), np.float32)
    values = rng.standard_normal((2, 5, n_head, 320, dim), np.float32)
    untouched = [keys.copy(), values.copy()]
    qkv = [np.zeros((0, 3, n_head, dim), np.float32)] * batch
    for step in steps:
        counts = [max(1, step // 3), step, max(1, step // 2)]
        new = [rng.standard_normal((count, 3, n_head, dim), np.float32) for count in counts]
        cache_lengths = np.array([len(sequence) for sequence in qkv])
        row_offsets = np.concatenate([[0], np.cumsum(counts)])
        flat = np.concatenate(new).reshape(-1, 3 * n_head * dim)
        output = attention(flat, np.array(1), np.array(scale), row_offsets, cache_lengths, slots, keys, values)
        qkv = [np.concatenate(both) for both in zip(qkv, new, strict=True)]
        for i in range(batch):
            expected = reference_attention(qkv[i], float(scale))[cache_lengths[i] :]
            ours = output[row_offsets[i] : row_offsets[i + 1]]
            np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5, err_msg=f"sequence {i}, {cache_lengths[i]}")
    for ours, before in zip((keys, values), untouched, strict=True):
        np.testing.assert_array_equal(ours[0], before[0])  # the other layer
        np.testing.assert_array_equal(ours[1, [1, 3]], before[1, [1, 3]])  # the slots of other sequences


def reference_attention(qkv: np.ndarray, scale: float) -> np.ndarray:
    """Causal attention in float64: [seq, 3, n_head, dim] -> [seq, n_head * dim]."""
    query, key, value = torch.from_numpy(qkv).double().permute(1, 2, 0, 3)
    mask = torch.full((len(qkv), len(qkv)), float("-inf"), dtype=torch.float64).triu(1)
    mixed = torch.softmax(query @ key.mT * scale + mask, dim=-1) @ value
    return mixed.transpose(0, 1).reshape(len(qkv), -1).numpy()


#: More columns than one KC block; the block ends within a vector of the last head.
CONFIG = GPT2Config(n_embd=273, n_head=3, n_layer=2, n_inner=530, activation_function="relu", layer_norm_epsilon=1e-2)
#: New tokens of each sequence: GEMV, GEMM, and more rows than one block of MC.
COUNTS = [[1], [1] * 8, [5, 1, 17], [33], [200, 1, 80]]


def block_weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    width, inner = CONFIG.n_embd, CONFIG.intermediate_size
    shapes = {"attn.c_attn": (width, 3 * width), "attn.c_proj": (width, width)}
    shapes |= {"mlp.c_fc": (width, inner), "mlp.c_proj": (inner, width)}
    sizes: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in shapes.items()}
    sizes |= {f"{name}.bias": (shape[1],) for name, shape in shapes.items()}
    sizes |= {f"{name}.{part}": (width,) for name in ("ln_1", "ln_2") for part in ("weight", "bias")}
    return {name: rng.standard_normal(size, np.float32) for name, size in sizes.items()}


def block_inputs(counts: list[int]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return x [tokens, n_embd], and the inputs that follow `logits_indices`, with random keys and values."""
    rng = np.random.default_rng(len(counts))
    batch, dim = len(counts), CONFIG.head_dim
    x = rng.standard_normal((sum(counts), CONFIG.n_embd), np.float32)
    keys = rng.standard_normal((2, batch + 1, CONFIG.n_head, dim, 320), np.float32)
    values = rng.standard_normal((2, batch + 1, CONFIG.n_head, 320, dim), np.float32)
    cache_lengths, slots = rng.integers(0, 100, batch), rng.permutation(batch + 1)[:batch]
    row_offsets = np.concatenate([[0], np.cumsum(counts)])
    return x, [np.array(1), np.array(0.3, np.float32), row_offsets, cache_lengths, slots, keys, values]


def selections(counts: list[int]) -> list[np.ndarray]:
    """Return several values of `logits_indices`: all tokens, the last of each sequence, and others."""
    tokens = np.arange(sum(counts))
    return [tokens, np.cumsum(counts) - 1, tokens[len(tokens) // 3 :], tokens[::2]]


@pytest.fixture(scope="module")
def block() -> CompiledBlock:
    return CompiledBlock(CONFIG, block_weights())


@pytest.mark.parametrize("counts", COUNTS)
def test_fused_block_is_bitwise_identical_to_its_parts(block: CompiledBlock, counts: list[int]) -> None:
    """The fused operation equals its parts; the tests of `verify` compare the parts with transformers."""
    x, rest = block_inputs(counts)
    for logits_indices in selections(counts):
        for _ in range(3):  # the order of the threads differs between runs
            fused, parts, *_ = block(x, logits_indices, *rest)
            np.testing.assert_array_equal(fused, parts[logits_indices])
            assert np.abs(fused - x[logits_indices]).min(axis=1).max() > 0


#: Another value for each constant of tuning.mojo that must not change a result, on any processor.
RETUNED = {
    "MC": 60,
    "MR": 4,
    "NR_VECTORS": 1,
    "PACK_PREFETCH_ROWS": 3,
    "GEMV_MAX_ROWS": 7,
    "GEMV_KR": 2,
    "GEMV_NO_PREFETCH_ROWS": 4,
    "GEMV_ACCUMULATORS": 300,
    "ATTENTION_QUERIES": 3,
    "ATTENTION_VECTORS": 2,
    "ATTENTION_TOKENS": 20,
    "LOGITS_TOKENS": 3,
    "LOGITS_ACCUMULATORS": 7,
    "LOGITS_ROWS": 24,
    "LOGITS_UNROLL": 3,
    "HEAD_T": 2,
    "HEAD_R": 5,
    "HEAD_TOKENS": 7,
    "ROWS_PER_ITEM": 5,
    "SPIN_LIMIT": 10,
    "MAX_PHASES": 16,
}
#: Constants that define results (KC), follow from the processor, or follow from others.
FIXED = {"KC", "SCORE_CHUNK", "CACHE_LINE", "LARGE_REGISTER_FILE", "NR", "MR_STEP"}


def retuned_kernels(folder: Path) -> Path:
    """Copy the kernels into a folder and change every constant of `RETUNED`."""
    kernels = shutil.copytree(MojoOps.extensions[0], folder / "kernels")
    tuning = kernels / "tuning.mojo"
    text = tuning.read_text()
    assert set(re.findall(r"^comptime (\w+) =", text, re.MULTILINE)) == RETUNED.keys() | FIXED
    for name, value in RETUNED.items():
        text = re.sub(rf"^comptime {name} = .*$", f"comptime {name} = {value}", text, flags=re.MULTILINE)
    tuning.write_text(text)
    return kernels


@pytest.mark.slow
def test_other_block_sizes_give_bitwise_identical_logits(block: CompiledBlock, tmp_path: Path) -> None:
    """A buffer with a hard-coded size would overrun here and end the process."""
    retuned = CompiledBlock(CONFIG, block_weights(), (retuned_kernels(tmp_path),))
    for counts in COUNTS:
        for logits_indices in selections(counts):
            outputs = [
                graph(x, logits_indices, *rest) for graph in (block, retuned) for x, rest in [block_inputs(counts)]
            ]
            for ours, theirs in zip(*outputs, strict=True):
                np.testing.assert_array_equal(ours, theirs)


#: A sequence that does not fit its slot of 64 tokens.
OVERRUN = """
import numpy as np
from tests.model.kernels import CompiledAttention
attention = CompiledAttention()
keys, values = np.zeros((1, 1, 1, 4, 64), np.float32), np.zeros((1, 1, 1, 64, 4), np.float32)
print("compiled", flush=True)
attention(np.zeros((5, 12), np.float32), np.array(0), np.array(1, np.float32), np.array([0, 5]), np.array([60]),
          np.array([0]), keys, values)
"""


def test_sequence_longer_than_its_cache_stops_the_process(attention: CompiledAttention) -> None:
    """`attention` is requested so that its graph is in the compile cache."""
    environment = dict(os.environ)  # without the variables that MAX's libraries set in this process
    done = subprocess.run([sys.executable, "-c", OVERRUN], capture_output=True, text=True, env=environment)
    assert done.returncode < 0
    assert "compiled" in done.stdout
    assert "sequence 0 is longer than its cache" in done.stdout + done.stderr
