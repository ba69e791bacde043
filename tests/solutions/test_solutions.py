"""Each solution is compared with PyTorch, all in one graph, and so are the tokens that the whole model generates."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from max.driver import CPU, Buffer
from max.dtype import DType
from max.experimental import functional as F
from max.experimental.nn import Module
from max.experimental.tensor import Tensor, default_device, default_dtype
from max.graph import TensorType

from fixtures.checkpoints import as_linear, random_ids, reference_model
from max_gpt2.checkpoint import Checkpoint
from solutions.solution_01 import GPT2Config
from solutions.solution_02 import causal_mask
from solutions.solution_05 import GPT2Embeddings
from solutions.solution_06 import GPT2PositionEmbeddings
from solutions.solution_10 import apply_residual_connection
from solutions.solution_11 import GPT2Block
from solutions.solution_13 import CompiledGPT2
from solutions.solution_14 import generate_next_token, generate_tokens

FOLDER = Path(__file__).parent.parent.parent / "solutions"
CONFIG = GPT2Config(vocab_size=311, n_positions=67, n_embd=24, n_layer=3, n_head=3, layer_norm_epsilon=3e-2)
SEQ = 11


class Steps(Module[[Tensor, Tensor], tuple[Tensor, ...]]):
    """The parts of one block, each with its own output."""

    def __init__(self) -> None:
        self.wte = GPT2Embeddings(CONFIG)
        self.wpe = GPT2PositionEmbeddings(CONFIG)
        self.block = GPT2Block(CONFIG)

    def forward(self, input_ids: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        seq, block = x.shape[1], self.block
        return (
            causal_mask(seq),
            block.ln_1(x),
            block.mlp(x),
            self.wte(input_ids),
            self.wpe(seq),
            *block.attn.qkv(x),
            block.attn.split_heads(x),
            block.attn(x),
            apply_residual_connection(x, block.ln_2(x)),
            block(x),
        )


OUTPUTS = ("mask", "ln_1", "mlp", "wte", "wpe", "query", "key", "value", "heads", "attention", "residual", "block")


@pytest.fixture(scope="module")
def steps(tiny_checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    with default_device(CPU()), default_dtype(DType.float32):
        with F.lazy():
            module = Steps()
        weights = {name: tiny_checkpoint.state_dict[f"transformer.{name}"] for name in ("wte.weight", "wpe.weight")}
        for name, value in as_linear(tiny_checkpoint.state_dict).items():
            if name.startswith("transformer.h.0."):
                weights["block." + name.removeprefix("transformer.h.0.")] = value
        ids = TensorType(DType.int64, ["batch", "seq"], device=CPU())
        x = TensorType(DType.float32, ["batch", "seq", 24], device=CPU())
        run = module.compile(ids, x, weights=weights)
    outputs = run.execute_raw(Buffer.from_numpy(random_ids(2, SEQ)), Buffer.from_numpy(hidden()))
    return {name: output.to_numpy() for name, output in zip(OUTPUTS, outputs, strict=True)}


def hidden() -> np.ndarray:
    """Return hidden states with a standard deviation other than 1: [2, SEQ, n_embd]."""
    return np.random.default_rng(3).standard_normal((2, SEQ, 24), dtype=np.float32) * np.float32(0.4)


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    transformer = reference_model().transformer
    block: Any = transformer.h[0]
    x, ids = torch.from_numpy(hidden()), torch.from_numpy(random_ids(2, SEQ))
    causal = torch.full((SEQ, SEQ), float("-inf")).triu(1)
    with torch.no_grad():
        query, key, value = block.attn.c_attn(x).split(24, dim=2)
        values = {
            "mask": causal,
            "ln_1": block.ln_1(x),
            "mlp": block.mlp(x),
            "wte": transformer.wte(ids),
            "wpe": transformer.wpe(torch.arange(SEQ)),
            "query": query,
            "key": key,
            "value": value,
            "heads": x.view(2, SEQ, 3, 8).permute(0, 2, 1, 3),
            "attention": block.attn(x, attention_mask=causal[None, None])[0],
            "residual": x + block.ln_2(x),
            "block": block(x, attention_mask=causal[None, None]),
        }
    return {name: value.numpy() for name, value in values.items()}


@pytest.mark.slow  # compiles a graph of its own; the checks of tests/tutorial cover the steps too
@pytest.mark.parametrize("name", OUTPUTS)
def test_step_matches_pytorch(name: str, steps: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(steps[name], expected[name], rtol=0, atol=5e-6)


def test_config_resolves_n_inner_and_checks_n_head() -> None:
    assert GPT2Config().n_inner == 3072
    assert GPT2Config(n_embd=24, n_head=3).n_inner == 96
    assert GPT2Config(n_inner=5).n_inner == 5
    with pytest.raises(ValueError, match="n_embd=24 is not a multiple of n_head=5"):
        GPT2Config(n_embd=24, n_head=5)


class Fixed:
    """A model that always returns the same logits and counts its calls."""

    config = CONFIG

    def __init__(self, logits: list[float]) -> None:
        self.row = np.array(logits, dtype=np.float32)
        self.calls = 0

    def __call__(self, input_ids: np.ndarray) -> np.ndarray:
        self.calls += 1
        return np.broadcast_to(self.row, (*input_ids.shape, len(self.row)))


def test_greedy_tokens_match_transformers(tutorial_model: CompiledGPT2) -> None:
    rows = random_ids(3, 6)
    ours = generate_tokens(tutorial_model, rows, max_new_tokens=20, do_sample=False)
    settings = {"do_sample": False, "max_new_tokens": 20, "eos_token_id": None, "pad_token_id": 0}
    ids = torch.from_numpy(rows)
    theirs = reference_model().generate(ids, attention_mask=torch.ones_like(ids), **settings)
    np.testing.assert_array_equal(ours, theirs.numpy())


def test_same_seed_samples_the_same_tokens(tutorial_model: CompiledGPT2) -> None:
    rows = random_ids(2, 4)
    sequences = [generate_tokens(tutorial_model, rows, 15, temperature=1.2, seed=seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(sequences[0], sequences[1])
    assert not np.array_equal(sequences[0], sequences[2])
    np.testing.assert_array_equal(sequences[0][:, :4], rows)
    assert sequences[0].shape == (2, 19)


def test_sampling_follows_the_temperature() -> None:
    logits = [0.0, 1.0, 2.0]
    rows = np.zeros((30_000, 1), dtype=np.int64)
    for temperature in (0.5, 1.0, 3.0):
        drawn = generate_next_token(Fixed(logits), rows, temperature, True, np.random.default_rng(0))
        expected = torch.softmax(torch.tensor(logits) / temperature, dim=0).numpy()
        np.testing.assert_allclose(np.bincount(drawn[:, 0], minlength=3) / len(rows), expected, atol=0.01)


@pytest.mark.parametrize(("seq", "new"), [(67, 0), (66, 1), (1, 66)])
def test_sequence_may_fill_the_context(seq: int, new: int) -> None:
    rows = generate_tokens(Fixed([0.0]), np.zeros((1, seq), dtype=np.int64), max_new_tokens=new)
    assert rows.shape == (1, 67)


@pytest.mark.parametrize(("seq", "new"), [(67, 1), (68, 0), (1, 67)])
def test_sequence_beyond_the_context_is_rejected(seq: int, new: int) -> None:
    model = Fixed([0.0])
    with pytest.raises(ValueError, match=f"{seq} \\+ {new} tokens exceed the context, n_positions=67"):
        generate_tokens(model, np.zeros((1, seq), dtype=np.int64), max_new_tokens=new)
    assert model.calls == 0


def test_temperature_of_zero_is_rejected() -> None:
    with pytest.raises(ValueError, match="do_sample=False"):
        generate_tokens(Fixed([0.0]), np.zeros((1, 1), dtype=np.int64), temperature=0)


def test_public_names_exist() -> None:
    names = {
        2: ["causal_mask"],
        3: ["LayerNorm"],
        4: ["GPT2MLP"],
        5: ["GPT2Embeddings"],
        6: ["GPT2PositionEmbeddings"],
        7: ["GPT2SingleHeadQKV"],
        8: ["compute_attention"],
        9: ["GPT2MultiHeadAttention"],
        10: ["ResidualBlock", "apply_residual_connection"],
        11: ["GPT2Block"],
        12: ["GPT2Model"],
        13: ["MaxGPT2LMHeadModel"],
        14: ["generate_next_token", "generate_tokens"],
    }
    for number, promised in names.items():
        text = (FOLDER / f"solution_{number:02}.py").read_text()
        for name in promised:
            assert re.search(rf"^(class|def) {name}\b", text, re.MULTILINE), name


def test_solutions_are_short() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in FOLDER.glob("*.py")}
    assert lengths.pop("pretrained.py") < 130
    assert all(length < 75 for length in lengths.values()), lengths


def test_names_are_defined_once_and_models_are_independent() -> None:
    defined: dict[str, str] = {}
    for path in sorted(FOLDER.glob("*.py")):
        text = path.read_text()
        assert "max_gpt2" not in text
        for name in re.findall(r"^(?:class|def) (\w+)", text, re.MULTILINE):
            assert name not in defined, f"{name} is in {defined[name]} and in {path.name}"
            defined[name] = path.name
    package = FOLDER.parent / "src"
    assert not [
        path for path in package.rglob("*.py") if re.search(r"^(from|import) solutions", path.read_text(), re.M)
    ]
