"""The scoring graph compared with the logits of the generation graph, and its bitwise guarantees."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from max_gpt2.checkpoint import Checkpoint
from max_gpt2.model import CompiledModel
from max_gpt2.model.compile_cache import load_or_compile_scoring
from max_gpt2.model.scoring import NO_TARGET, LogitsScoringModel, ScoringModel, TokenScores, Window

TOP = 7


@pytest.fixture(scope="module")
def scoring(tiny_checkpoint: Checkpoint) -> ScoringModel:
    return load_or_compile_scoring(tiny_checkpoint.config, tiny_checkpoint.state_dict)


@pytest.fixture(scope="module")
def mask(tiny_checkpoint: Checkpoint) -> np.ndarray:
    return np.random.default_rng(1).random(tiny_checkpoint.config.vocab_size) < 0.3


def random_windows(checkpoint: Checkpoint, count: int = 40) -> list[Window]:
    """Return windows of 1 to `n_positions` inputs, with targets for some of their last inputs."""
    config, rng = checkpoint.config, np.random.default_rng(0)
    windows = []
    for _ in range(count):
        inputs = rng.integers(0, config.vocab_size, rng.integers(1, config.n_positions + 1))
        targets = rng.integers(NO_TARGET, config.vocab_size, rng.integers(1, len(inputs) + 1))
        windows.append(Window(inputs.tolist(), targets.tolist()))
    return windows


def assert_bitwise_equal(ours: TokenScores, theirs: TokenScores) -> None:
    for name in TokenScores.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)


def test_scores_are_those_of_the_logits_of_generation(
    scoring: ScoringModel, tiny_model: CompiledModel, tiny_checkpoint: Checkpoint, mask: np.ndarray
) -> None:
    """`verify` compares these logits with PyTorch. Equal ranks show that the logits are the same numbers."""
    windows = random_windows(tiny_checkpoint)
    expected = LogitsScoringModel(tiny_model).score(windows, TOP, mask)
    for ours, theirs in zip(scoring.score(windows, TOP, mask), expected, strict=True):
        for name in ("logprobs", "entropies", "mask_logprobs", "top_logprobs"):
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=0, atol=3e-6, err_msg=name)
        np.testing.assert_array_equal(ours.ranks, theirs.ranks)
        np.testing.assert_array_equal(ours.top_ids, theirs.top_ids)


def test_scores_do_not_depend_on_the_batch(
    scoring: ScoringModel, tiny_checkpoint: Checkpoint, mask: np.ndarray
) -> None:
    windows = random_windows(tiny_checkpoint)
    together = scoring.score(windows, TOP, mask)
    for window, ours in zip(windows, together, strict=True):
        assert_bitwise_equal(ours, *scoring.score([window], TOP, mask))
    for ours, theirs in zip(scoring.score(windows[::-1], TOP, mask)[::-1], together, strict=True):
        assert_bitwise_equal(ours, theirs)


def test_score_does_not_depend_on_other_targets(
    scoring: ScoringModel, tiny_checkpoint: Checkpoint, mask: np.ndarray
) -> None:
    """A graph call computes the last layer for the scored inputs only."""
    inputs = random_windows(tiny_checkpoint)[0].inputs
    targets = [*inputs[1:], NO_TARGET]
    (whole,) = scoring.score([Window(inputs, targets)], TOP, mask)
    (last,) = scoring.score([Window(inputs, targets[-3:])], TOP, mask)
    assert_bitwise_equal(last, TokenScores(*(getattr(whole, name)[-3:] for name in TokenScores.__dataclass_fields__)))


def test_no_alternatives_are_returned_unless_requested(
    scoring: ScoringModel, tiny_checkpoint: Checkpoint, mask: np.ndarray
) -> None:
    (window,) = random_windows(tiny_checkpoint, 1)
    (scores,) = scoring.score([window], 0, mask)
    assert scores.top_ids.shape == scores.top_logprobs.shape == (len(window.targets), 0)


#: Scores the windows of this module on one core and saves the log probabilities.
ONE_CORE = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import numpy as np
from pathlib import Path
from max_gpt2.checkpoint import load_checkpoint
from max_gpt2.model.compile_cache import load_or_compile_scoring
from tests.model.test_scoring import random_windows
checkpoint = load_checkpoint(Path(sys.argv[1]))
scoring = load_or_compile_scoring(checkpoint.config, checkpoint.state_dict)
mask = np.zeros(checkpoint.config.vocab_size, dtype=bool)
np.save(sys.argv[2], np.concatenate([one.logprobs for one in scoring.score(random_windows(checkpoint), 0, mask)]))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot restrict a process to one core")
def test_scores_do_not_depend_on_the_number_of_cores(
    scoring: ScoringModel, tiny_checkpoint: Checkpoint, tiny_original: Path, tmp_path: Path
) -> None:
    file = tmp_path / "logprobs.npy"
    environment = dict(os.environ)  # without the variables that MAX's libraries set in this process
    subprocess.run([sys.executable, "-c", ONE_CORE, str(tiny_original), str(file)], check=True, env=environment)
    mask = np.zeros(tiny_checkpoint.config.vocab_size, dtype=bool)
    here = [one.logprobs for one in scoring.score(random_windows(tiny_checkpoint), 0, mask)]
    np.testing.assert_array_equal(np.load(file), np.concatenate(here))
