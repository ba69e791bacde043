"""Kernels compared with PyTorch at sizes that are no multiple of a vector or block, and their bitwise guarantees."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from max.driver import CPU, Buffer
from max.engine import InferenceSession
from torch.nn.functional import layer_norm

from max_gpt2.config import GPT2Config
from max_gpt2.model import ops_mojo
from max_gpt2.model.batch import RaggedBatch
from max_gpt2.model.compile import compile_graph
from max_gpt2.model.compile_cache import load_or_compile, load_or_compile_stages
from max_gpt2.model.stages import StagedRun, Stages, Tap
from max_gpt2.model.table import ModelTable
from tests.model.kernels import EPS, CompiledLayers, LayerInputs, random_weights
from tests.model.stored import stored_pair

#: (in, out): one element, less than one vector, slightly more than a few vectors, and than a few blocks.
SIZES = [(1, 1), (5, 3), (24, 37), (300, 70), (530, 1089)]
#: Rows for GEMV and for GEMM, and the counts around the switch between them.
TOKENS = [1, 2, 8, 13, 28, 29, 33, 48, 65, 128, 251, 277]

#: A kernel called with arrays; the last two, keys and values, are updated in place.
Attention = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def layers() -> CompiledLayers:
    return CompiledLayers()


@pytest.fixture(scope="module")
def attention() -> Attention:
    run = load_or_compile_stages()["attention"]
    return lambda *arrays: run(*map(Buffer.from_numpy, arrays))[0].to_numpy()


def inputs(tokens: int, width: int, out: int) -> LayerInputs:
    rng = np.random.default_rng(width)
    x, weight, bias = (rng.standard_normal(shape, np.float32) for shape in ((300, width), (width, out), out))
    head, wpe, hidden = (rng.standard_normal(shape, np.float32) for shape in ((out, width), (out, width), (300, out)))
    ids = rng.integers(0, out, (2, 300))
    targets = rng.integers(-1, out, 300)
    mask = (rng.random(out) < 0.5).astype(np.float32)
    mask[0] = 1  # not empty
    return LayerInputs(
        x=x[:tokens],
        weight=weight / np.float32(width**0.5),
        bias=bias,
        head=head,
        hidden=hidden[:tokens],
        ids=ids[0, :tokens],
        positions=ids[1, :tokens],
        wpe=wpe,
        targets=targets[:tokens],
        mask=mask,
        best=np.zeros(min(out, 7), np.int64),
    )


@pytest.mark.parametrize(("width", "out"), SIZES)
@pytest.mark.parametrize("tokens", TOKENS)
def test_token_scores_match_pytorch(layers: CompiledLayers, tokens: int, width: int, out: int) -> None:
    given = inputs(tokens, width, out)
    targets, mask, top = given.targets, torch.from_numpy(given.mask).bool(), len(given.best)
    outputs = layers(given)
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
    given = inputs(5, 24, 1000)
    outputs = layers(replace(given, x=np.zeros_like(given.x)))
    np.testing.assert_array_equal(outputs.ranks, given.targets + 1)
    np.testing.assert_array_equal(outputs.top_ids, np.tile(np.arange(7), (5, 1)))


def test_logits_that_are_not_finite_have_no_finite_score(layers: CompiledLayers) -> None:
    given = inputs(3, 24, 1000)
    given.x[0, 3], given.x[1, 5] = np.nan, np.inf
    outputs = layers(given)
    assert np.isfinite(outputs.sums[1]).tolist() == [False, False, True]


@pytest.mark.parametrize(("width", "out"), SIZES)
@pytest.mark.parametrize("tokens", TOKENS)
def test_layers_match_pytorch(layers: CompiledLayers, tokens: int, width: int, out: int) -> None:
    given = inputs(tokens, width, out)
    outputs = layers(given)
    arrays = given.x, given.weight, given.bias, given.head, given.hidden, given.wpe
    x, weight, bias, head, hidden, wpe = (torch.from_numpy(array).double() for array in arrays)
    expected = {
        "linear": (outputs.linear["none"], x @ weight + bias),
        "layer_norm": (outputs.layer_norm, layer_norm(hidden, [out], bias, bias, EPS)),
        "logits": (outputs.logits, x @ head.T),
        "embed": (outputs.embed, head[given.ids] + wpe[given.positions]),
    }
    for name, (ours, theirs) in expected.items():
        # Logits sum 530 products of magnitude one; AVX2 has longer chains of additions than AVX-512.
        atol = 4e-5 if name == "logits" else 2e-5
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-5, atol=atol, err_msg=name)


@pytest.mark.parametrize(("width", "out"), SIZES)
def test_row_is_bitwise_identical_alone_and_among_others(layers: CompiledLayers, width: int, out: int) -> None:
    all_rows = layers(inputs(277, width, out))
    for tokens in TOKENS:
        outputs = layers(inputs(tokens, width, out))
        for name, values in outputs.linear.items():
            np.testing.assert_array_equal(values, all_rows.linear[name][:tokens], err_msg=f"{name}, {tokens}")
        np.testing.assert_array_equal(outputs.layer_norm, all_rows.layer_norm[:tokens])
        np.testing.assert_array_equal(outputs.logits, all_rows.logits[:tokens])
        np.testing.assert_array_equal(outputs.sums, all_rows.sums[:, :tokens])
        np.testing.assert_array_equal(outputs.top_logprobs, all_rows.top_logprobs[:tokens])


@pytest.mark.parametrize("dim", [1, 8, 20, 64, 84])
@pytest.mark.parametrize("steps", [[1], [5], [17, 1, 1], [200, 1], [100, 130]])
def test_attention_matches_pytorch(attention: Attention, dim: int, steps: list[int]) -> None:
    """Extend three sequences in unordered slots: the second by these steps, the others by fractions of them."""
    n_head, batch, slots, scale = 3, 3, np.array([4, 0, 2]), np.float32(0.3)
    rng = np.random.default_rng(dim)
    keys = rng.standard_normal((2, 5, n_head, 5, dim, 64), np.float32)
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
UNEVEN = GPT2Config(100, n_positions=320, n_embd=273, n_head=3, n_layer=3, n_inner=530, layer_norm_epsilon=1e-2)
#: Columns in whole vectors.
EVEN = GPT2Config(100, n_positions=320, n_embd=96, n_head=2, n_layer=2, n_inner=160)
#: New tokens of each sequence: GEMV, GEMM, and more rows than one block of MC.
COUNTS = [[1], [1] * 8, [5, 1, 17], [33], [200, 1, 80]]


def batches(config: GPT2Config, counts: list[int]) -> Iterator[list[np.ndarray]]:
    """Yield the inputs of a model with random keys and values, for several values of `logits_indices`."""
    rng = np.random.default_rng(len(counts))
    batch, tokens = len(counts), np.arange(sum(counts))
    shape = config.n_layer, batch + 1, config.n_head
    keys = rng.standard_normal((*shape, 5, config.head_dim, 64), np.float32)
    values = rng.standard_normal((*shape, 320, config.head_dim), np.float32)
    lengths, slots = rng.integers(0, 100, batch), rng.permutation(batch + 1)[:batch]
    ids = [rng.integers(0, 100, count) for count in counts]
    positions = [np.arange(start, start + count) for start, count in zip(lengths, counts, strict=True)]
    rows = np.concatenate([[0], np.cumsum(counts)])
    # All tokens, the last of each sequence, and others.
    for indices in (tokens, rows[1:] - 1, tokens[len(tokens) // 3 :], tokens[::2]):
        arrays = np.concatenate(ids), np.concatenate(positions), rows, lengths, slots, indices
        yield [*arrays, keys.copy(), values.copy()]


class NoTap:
    """A tap that changes nothing."""

    def wants(self, _name: str) -> bool:
        return False

    def see(self, _name: str, value: np.ndarray) -> np.ndarray:
        return value

    def see_pattern(self, _name: str, _sequence: int, value: np.ndarray) -> np.ndarray:
        return value


@pytest.mark.parametrize("config", [UNEVEN, EVEN], ids=["uneven", "even"])
def test_transformer_is_bitwise_identical_to_its_parts(config: GPT2Config) -> None:
    """The one operation equals its parts, which the tests of `verify` compare with transformers."""
    weights = random_weights(config)
    model = load_or_compile(config, weights)

    def make_tap(_batch: RaggedBatch) -> Tap:
        return NoTap()

    staged = StagedRun(Stages(config, load_or_compile_stages(), weights), make_tap)
    for counts in COUNTS:
        for arrays in batches(config, counts):
            expected = staged(*(Buffer.from_numpy(array.copy()) for array in arrays))[0].to_numpy()
            assert np.abs(expected).max(axis=1).min() > 0
            for _ in range(3):  # the order of the threads differs between runs
                found = model.run(*(Buffer.from_numpy(array.copy()) for array in arrays))[0].to_numpy()
                np.testing.assert_array_equal(found, expected)


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
    "PANEL_PREFETCH_BYTES": 100,
    "ATTENTION_QUERIES": 3,
    "ATTENTION_VECTORS": 2,
    "ATTENTION_TOKENS": 20,
    "LOGITS_TOKENS": 3,
    "LOGITS_ACCUMULATORS": 7,
    "LOGITS_ROWS": 24,
    "LOGITS_UNROLL": 3,
    "DECODED_ROWS": 3,
    "HEAD_T": 2,
    "HEAD_R": 5,
    "HEAD_TOKENS": 7,
    "ROWS_PER_ITEM": 5,
    "SPIN_LIMIT": 10,
}
#: Constants that define results (KC) or shapes, follow from the processor, or follow from others.
FIXED = {"KC", "SCORE_CHUNK", "CACHE_LINE", "KEY_BLOCK", "LARGE_REGISTER_FILE", "NR", "MR_STEP"}


def retuned_kernels(folder: Path) -> Path:
    """Copy the kernels into a folder and change every constant of `RETUNED`."""
    kernels = shutil.copytree(ops_mojo.KERNELS, folder / "kernels")
    tuning = kernels / "tuning.mojo"
    text = tuning.read_text()
    assert set(re.findall(r"^comptime (\w+) =", text, re.MULTILINE)) == RETUNED.keys() | FIXED
    for name, value in RETUNED.items():
        text = re.sub(rf"^comptime {name} = .*$", f"comptime {name} = {value}", text, flags=re.MULTILINE)
    tuning.write_text(text)
    return kernels


@pytest.fixture(scope="module")
def retuned(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., np.ndarray]:
    """A function that runs a model with the kernels of `retuned_kernels`."""
    kernels = retuned_kernels(tmp_path_factory.mktemp("retuned"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops_mojo, "KERNELS", kernels)
        artifact = compile_graph("mojo")
    (graph,) = InferenceSession(devices=[CPU()]).init_all(artifact).values()

    def run(table: ModelTable, arrays: list[np.ndarray]) -> np.ndarray:
        return graph.execute(*table.buffers(), *(Buffer.from_numpy(array.copy()) for array in arrays))[0].to_numpy()

    return run


@pytest.mark.slow
@pytest.mark.parametrize("type_", ["F32", "F16", "Q8_0", "Q4_0", "Q5_1"])
def test_other_block_sizes_give_bitwise_identical_logits(retuned: Callable[..., np.ndarray], type_: str) -> None:
    """A buffer with a hard-coded size would overrun here and end the process."""
    weights, _ = stored_pair(EVEN, type_)
    model, table = load_or_compile(EVEN, weights), ModelTable(EVEN, weights)
    for counts in COUNTS:
        for arrays in batches(EVEN, counts):
            ours = model.run(*(Buffer.from_numpy(array.copy()) for array in arrays))[0].to_numpy()
            np.testing.assert_array_equal(ours, retuned(table, arrays))


#: A sequence that does not fit its slot of 64 tokens.
OVERRUN = """
import numpy as np
from max.driver import Buffer
from max_gpt2.config import GPT2Config
from max_gpt2.model.compile_cache import load_or_compile_stages
attention = load_or_compile_stages()["attention"]
keys, values = np.zeros((1, 1, 1, 1, 4, 64), np.float32), np.zeros((1, 1, 1, 64, 4), np.float32)
print("compiled", flush=True)
arrays = [np.zeros((5, 12), np.float32), np.array(0), np.array(1, np.float32), np.array([0, 5]), np.array([60]),
          np.array([0]), keys, values]
attention(*map(Buffer.from_numpy, arrays))
"""


def test_sequence_longer_than_its_cache_stops_the_process(attention: Attention) -> None:
    """`attention` is requested so that its graph is in the compile cache."""
    environment = dict(os.environ)  # without the variables that MAX's libraries set in this process
    done = subprocess.run([sys.executable, "-c", OVERRUN], capture_output=True, text=True, env=environment)
    assert done.returncode < 0
    assert "compiled" in done.stdout
    assert "sequence 0 is longer than its cache" in done.stdout + done.stderr
