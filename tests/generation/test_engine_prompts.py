"""Two hundred prompts of 1 to 1,000 tokens, alone and in shuffled batches, against transformers."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from fixtures.checkpoints import reference_logits, reference_model, write_checkpoint
from max_gpt2.checkpoint import load_checkpoint
from max_gpt2.generation import Engine, Request, SamplingParams
from max_gpt2.model.compile import compile_model

pytestmark = pytest.mark.slow

LONG = {"n_positions": 1100, "n_layer": 2}
WRITTEN = 8
#: The cache has blocks of 64 tokens; the kernels work on 6, 8, 12, 16, 32 and 48 at a time.
SEAMS = [edge + offset for edge in (64, 128, 192, 512, 576, 960) for offset in (-9, -8, -7, -2, -1, 0, 1)]
SHORT = [*range(1, 50), 95, 96, 97]
COUNTS = [*SHORT, *SEAMS, *np.random.default_rng(1).integers(50, 1000, 199 - len(SHORT) - len(SEAMS)).tolist(), 1000]


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    rng = np.random.default_rng(2)
    return [
        Request(rng.integers(0, 311, count).tolist(), WRITTEN, SamplingParams(0, bad_words=[[299]])) for count in COUNTS
    ]


@pytest.fixture(scope="module")
def expected(requests: list[Request]) -> list[list[int]]:
    model, settings = (
        reference_model(**LONG),
        GenerationConfig(
            do_sample=False, max_new_tokens=WRITTEN, eos_token_id=None, suppress_tokens=list(range(299, 311))
        ),
    )
    found = []
    for request in requests:
        ids = torch.tensor([request.prompt_tokens])
        row = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)[0]
        found.append(row[len(request.prompt_tokens) :].tolist())
    return found


@pytest.fixture(scope="module")
def long_engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    checkpoint = load_checkpoint(write_checkpoint(tmp_path_factory.mktemp("long"), **LONG))
    return Engine(compile_model(checkpoint.config, checkpoint.state_dict), checkpoint.tokenizer)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_greedy_tokens(
    long_engine: Engine, requests: list[Request], expected: list[list[int]], batch_size: int
) -> None:
    order: list[int] = np.random.default_rng(batch_size).permutation(len(requests)).tolist()
    texts = long_engine.generate_all([requests[number] for number in order], batch_size)
    ties = 0
    for number, written in zip(order, texts, strict=True):
        if written.tokens != expected[number]:
            ties += 1
            assert_tie(requests[number].prompt_tokens, written.tokens, expected[number])
    assert ties <= 2, f"{ties} of {len(requests)} texts part, each at a tie of the reference's top two logits"


def assert_tie(prompt: Any, ours: list[int], theirs: list[int]) -> None:
    """Where two texts part first, the reference cannot tell the two ids apart."""
    place = next(at for at, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other)
    logits = reference_logits(reference_model(**LONG), np.array([[*prompt, *theirs[:place]]]))[0, -1]
    assert abs(logits[ours[place]] - logits[theirs[place]]) < 1e-4, (len(prompt), place)
