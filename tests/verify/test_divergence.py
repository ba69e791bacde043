"""Divergence, agreement, perplexity and errors, compared with PyTorch."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from max_gpt2.generation.logits import log_softmax
from max_gpt2.verify.divergence import ErrorSums, PredictionSums, weight_errors


def random_logits(rows: int, seed: int, spread: float = 4) -> np.ndarray:
    return (spread * np.random.default_rng(seed).standard_normal((rows, 311))).astype(np.float32)


def test_log_softmax_matches_pytorch() -> None:
    logits = random_logits(70, 0, spread=300)
    expected = torch.log_softmax(torch.from_numpy(logits).double(), dim=1)
    np.testing.assert_allclose(log_softmax(logits), expected, rtol=1e-12)


@pytest.mark.parametrize("rows", [1, 64, 65, 200])  # below and above the number computed at a time
def test_sums_match_pytorch(rows: int) -> None:
    reference, logits = random_logits(rows, 1), random_logits(rows, 2)
    targets = np.random.default_rng(3).integers(0, 311, rows).tolist()
    sums = PredictionSums()
    cut = rows // 3
    for part in (slice(0, cut), slice(cut, rows)):
        sums.add(reference[part], logits[part], targets[part])
    ours, theirs = (torch.from_numpy(one).double() for one in (logits, reference))
    each = F.kl_div(ours.log_softmax(1), theirs.log_softmax(1), reduction="none", log_target=True).sum(1)
    assert sums.count == rows
    assert sums.mean_divergence == pytest.approx(each.mean().item(), rel=1e-9)
    assert sums.max_divergence == pytest.approx(each.max().item(), rel=1e-9)
    assert sums.perplexity == pytest.approx(F.cross_entropy(ours, torch.tensor(targets)).exp().item(), rel=1e-9)
    assert sums.agreement == (ours.argmax(1) == theirs.argmax(1)).double().mean().item()


def test_equal_predictions_do_not_diverge() -> None:
    logits = random_logits(5, 4)
    sums = PredictionSums()
    sums.add(logits, logits, [0] * 5)
    assert (sums.mean_divergence, sums.max_divergence, sums.agreement) == (0, 0, 1)


def test_relative_error_is_that_of_norms() -> None:
    one, two = random_logits(3, 5), random_logits(3, 6)
    sums = ErrorSums()
    for row in range(3):
        sums.add(one[row], two[row])
    assert sums.relative == pytest.approx(np.linalg.norm(two - one) / np.linalg.norm(one), rel=1e-6)
    assert ErrorSums().relative == 0


@pytest.mark.parametrize("tied", [True, False])
def test_weight_errors_count_a_tied_head_once(tied: bool) -> None:
    parts = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    names = [f"transformer.h.{layer}.{part}.weight" for layer in range(2) for part in parts]
    names += ["transformer.wte.weight", "lm_head.weight"]
    one = {name: random_logits(2, seed) for seed, name in enumerate(names)}
    two = {name: value + np.float32(seed) for seed, (name, value) in enumerate(one.items())}
    if tied:
        for state in (one, two):
            state["lm_head.weight"] = state["transformer.wte.weight"]
            assert len(state) == 10
    layers, total = weight_errors(one, two, 2)

    def error(chosen: list[str]) -> float:
        before, after = (np.concatenate([state[name] for name in chosen]) for state in (one, two))
        return float(np.linalg.norm(after - before) / np.linalg.norm(before))

    assert layers == pytest.approx([error(names[:4]), error(names[4:8])], rel=1e-6)
    assert total == pytest.approx(error(names[:9] if tied else names), rel=1e-6)
