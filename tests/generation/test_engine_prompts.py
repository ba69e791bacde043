"""Greedy tokens after 200 prompts of 1 to 1,000 tokens, alone and in shuffled batches, compared with transformers."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from fixtures.checkpoints import reference_logits, reference_model, write_checkpoint
from max_gpt2.checkpoint import load_checkpoint
from max_gpt2.generation import Engine, Request, SamplingParams
from max_gpt2.model.compile_cache import load_or_compile

pytestmark = pytest.mark.slow

LONG = {"n_positions": 1100, "n_layer": 2}
NEW_TOKENS = 8
#: Lengths near multiples of the block sizes: the cache has blocks of 64 tokens, the kernels of 6 to 48.
BOUNDARIES = [edge + offset for edge in (64, 128, 192, 512, 576, 960) for offset in (-9, -8, -7, -2, -1, 0, 1)]
SHORT = [*range(1, 50), 95, 96, 97]
COUNTS = [
    *SHORT,
    *BOUNDARIES,
    *np.random.default_rng(1).integers(50, 1000, 199 - len(SHORT) - len(BOUNDARIES)).tolist(),
    1000,
]


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    rng = np.random.default_rng(2)
    return [
        Request(rng.integers(0, 311, count).tolist(), NEW_TOKENS, SamplingParams(0, bad_words=[[299]]))
        for count in COUNTS
    ]


@pytest.fixture(scope="module")
def expected(requests: list[Request]) -> list[list[int]]:
    model = reference_model(**LONG)
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=None, suppress_tokens=list(range(299, 311))
    )
    expected = []
    for request in requests:
        ids = torch.tensor([request.prompt_tokens])
        row = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)[0]
        expected.append(row[len(request.prompt_tokens) :].tolist())
    return expected


@pytest.fixture(scope="module")
def long_engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    checkpoint = load_checkpoint(write_checkpoint(tmp_path_factory.mktemp("long"), **LONG))
    return Engine(load_or_compile(checkpoint.config, checkpoint.state_dict), checkpoint.tokenizer)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_greedy_tokens_match_transformers(
    long_engine: Engine, requests: list[Request], expected: list[list[int]], batch_size: int
) -> None:
    order: list[int] = np.random.default_rng(batch_size).permutation(len(requests)).tolist()
    generations = long_engine.generate_all([requests[number] for number in order], batch_size)
    ties = 0
    for number, generation in zip(order, generations, strict=True):
        if generation.tokens != expected[number]:
            ties += 1
            assert_tie(requests[number].prompt_tokens, generation.tokens, expected[number])
    assert ties <= 2, f"{ties} of {len(requests)} sequences diverge, each at a tie of the reference's top two logits"


def assert_tie(prompt: Any, ours: list[int], theirs: list[int]) -> None:
    """Assert that the reference has equal logits for both ids at the first divergence."""
    position = next(at for at, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other)
    logits = reference_logits(reference_model(**LONG), np.array([[*prompt, *theirs[:position]]]))[0, -1]
    assert abs(logits[ours[position]] - logits[theirs[position]]) < 1e-4, (len(prompt), position)
