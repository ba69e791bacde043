import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from transformers import TemperatureLogitsWarper, TopKLogitsWarper

from max_gpt2.errors import RequestError
from max_gpt2.generation import make_sampler
from max_gpt2.generation.sampling import weights

LOGITS = np.array([1.5, -2.0, 3.25, 0.0, 3.0, -0.5, 2.0], dtype=np.float32)
#: Few distinct values, so that ties are common.
logits_with_ties = arrays(np.float32, st.integers(1, 9), elements=st.sampled_from([-3.0, -0.5, 0.0, 1.25, 4.0]))


def probabilities(logits: np.ndarray, temperature: float, top_k: int) -> np.ndarray:
    """What transformers' warpers leave, as probabilities."""
    scores = TemperatureLogitsWarper(temperature)(torch.empty(0), torch.from_numpy(logits[None].astype(np.float64)))
    if top_k:
        scores = TopKLogitsWarper(top_k)(torch.empty(0), scores)
    return scores.softmax(dim=-1)[0].numpy()


@given(logits_with_ties, st.floats(0.05, 5), st.integers(0, 10))
def test_the_weights_are_those_of_transformers(logits: np.ndarray, temperature: float, top_k: int) -> None:
    ours = weights(logits, temperature, top_k)
    theirs = probabilities(logits, temperature, top_k)
    assert ((ours > 0) == (theirs > 0)).all()
    np.testing.assert_allclose(ours / ours.sum(), theirs, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (0.6, 0), (2.0, 4)])
def test_the_frequencies_are_the_probabilities(temperature: float, top_k: int) -> None:
    sample = make_sampler(temperature, top_k, seed=11)
    counts = np.bincount([sample(LOGITS) for _ in range(20_000)], minlength=len(LOGITS))
    expected = probabilities(LOGITS, temperature, top_k)
    assert (counts[expected == 0] == 0).all()
    seen = expected > 0
    assert scipy.stats.chisquare(counts[seen], 20_000 * expected[seen]).pvalue > 1e-3


def test_temperature_zero_takes_the_likeliest_and_of_several_the_first() -> None:
    assert make_sampler(0, 0, 0)(LOGITS) == 2
    assert make_sampler(0, 0, 0)(np.array([1.0, 5.0, 5.0])) == 1


def test_the_seed_decides() -> None:
    draws = [[make_sampler(1.0, 0, seed)(LOGITS) for _ in range(1)] for seed in (1, 1, 2, 3, 4, 5)]
    assert draws[0] == draws[1]
    assert len({tuple(draw) for draw in draws}) > 1


@pytest.mark.parametrize("extreme", [1e4, -1e4])
def test_extreme_logits_do_not_overflow(extreme: float) -> None:
    logits = np.array([0.0, extreme, 1.0], dtype=np.float32)
    assert make_sampler(0.01, 0, 0)(logits) == (1 if extreme > 0 else 2)


@pytest.mark.parametrize(
    ("temperature", "top_k", "seed", "says"),
    [
        (-0.1, 0, 0, "temperature -0.1"),
        (float("nan"), 0, 0, "temperature nan"),
        (float("inf"), 0, 0, "temperature inf"),
        (1.0, -1, 0, "top_k -1"),
        (1.0, 0, -1, "seed -1"),
    ],
)
def test_impossible_options_are_refused(temperature: float, top_k: int, seed: int, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        make_sampler(temperature, top_k, seed)
