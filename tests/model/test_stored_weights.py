"""Logits of weights in every type are bitwise those of the same weights dequantised to float32 by the gguf package."""

from typing import Any

import numpy as np
import pytest
from max.driver import Buffer

from max_gpt2.config import GPT2Config
from max_gpt2.model.compile_cache import (
    load_or_compile,
    load_or_compile_paged,
    load_or_compile_scoring,
    load_or_compile_stages,
)
from max_gpt2.model.scoring import Window
from max_gpt2.model.session import Session
from max_gpt2.model.stages import StagedHiddenStates, Stages
from max_gpt2.weights import TYPES, WTE, Weights, float32
from tests.model.stored import configs, stored_pair

CASES = [(type_, config) for type_ in TYPES for config in configs(type_)]
#: A config, weights in a type, and the same in float32.
Pair = tuple[GPT2Config, Weights, Weights]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1].n_embd}")
def pair(request: pytest.FixtureRequest) -> Pair:
    type_, config = request.param
    return (config, *stored_pair(config, type_))


def some_ids(batch: int, seq: int) -> np.ndarray:
    return np.random.default_rng(seq).integers(0, 203, (batch, seq))


@pytest.mark.parametrize(("batch", "seq"), [(1, 1), (1, 7), (3, 9), (2, 40), (1, 300)])
def test_logits_of_a_batch(pair: Pair, batch: int, seq: int) -> None:
    config, stored, values = pair
    expected = load_or_compile(config, values).logits(some_ids(batch, seq))
    np.testing.assert_array_equal(load_or_compile(config, stored).logits(some_ids(batch, seq)), expected)
    assert 0.1 < np.abs(expected).max() < 1e4


def test_logits_of_a_growing_sequence(pair: Pair) -> None:
    config, stored, values = pair
    (ids,) = some_ids(1, 24).tolist()
    expected = load_or_compile(config, values).logits(np.array([ids]))[0]
    session = load_or_compile(config, stored).session(2, 64)
    first = extend(session, {1: ids[:13], 0: ids[:3]})  # the last tokens only
    np.testing.assert_array_equal(first, [expected[12], expected[2]])
    for position in range(13, 24):
        np.testing.assert_array_equal(extend(session, {1: [ids[position]]}), expected[position : position + 1])


def extend(session: Session, tokens: dict[int, list[int]]) -> np.ndarray:
    return np.concatenate(session.extend(tokens))


def test_scores(pair: Pair) -> None:
    config, stored, values = pair
    (ids,) = some_ids(1, 60).tolist()
    windows = [Window(ids[:50], ids[1:51]), Window([3], [4]), Window(ids[20:50], ids[31:51])]
    mask = np.arange(203) % 3 == 0
    scores = [load_or_compile_scoring(config, one).score(windows, 5, mask) for one in (stored, values)]
    for ours, theirs in zip(*scores, strict=True):
        for name in ("logprobs", "ranks", "entropies", "mask_logprobs", "top_ids", "top_logprobs"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)


def test_logits_and_scores_with_a_paged_cache(pair: Pair) -> None:
    config, stored, values = pair
    ids = some_ids(1, 150)[0]
    blocks = np.zeros((3, 2, config.n_layer, 128, config.n_head, config.head_dim), np.float32)
    rows = [np.array([5, 149]), np.array([1]), np.array([0])]  # logits_indices, sampled, scored
    scoring = [ids[6:7], np.zeros(203, np.float32), np.zeros(2, np.int64)]
    table = np.array([[2, 0]])
    batch = [ids, np.arange(150), np.array([0, 150]), np.array([0]), table, *rows, *scoring]

    def run(weights: Weights) -> list[np.ndarray]:
        arrays: list[Any] = [*batch, blocks.copy()]
        outputs = load_or_compile_paged(config, weights)(*map(Buffer.from_numpy, arrays))
        return [output.to_numpy() for output in outputs]

    for ours, theirs in zip(run(stored), run(values), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(run(stored)[0][0], load_or_compile(config, values).logits(ids[None])[0, -1])


def test_hidden_states_and_embeddings(pair: Pair) -> None:
    config, stored, values = pair
    (ids,) = some_ids(1, 12).tolist()
    graphs = load_or_compile_stages()
    ours, theirs = (StagedHiddenStates(Stages(config, graphs, one)) for one in (stored, values))
    for name, state in theirs.hidden_states(ids).items():
        np.testing.assert_array_equal(ours.hidden_states(ids)[name], state, err_msg=name)
    np.testing.assert_array_equal(ours.wte(), values[WTE])


def test_values_of_stored_weights(pair: Pair) -> None:
    _, stored, values = pair
    for name, value in values.items():
        np.testing.assert_array_equal(float32(stored[name]), value, err_msg=name)
