"""Beam search, compared with transformers."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
import transformers
from transformers import GenerationConfig

from fixtures.checkpoints import random_ids, reference_logits, reference_model
from max_gpt2 import GPT2
from max_gpt2.errors import RequestError
from max_gpt2.generation import BeamSearch, Engine, Request, SamplingParams
from max_gpt2.generation.beam_search import BeamConstraints
from max_gpt2.generation.beam_search import search as search_beams
from max_gpt2.model import Session

SUPPRESSED = list(range(300, 311))
PROMPTS = [random_ids(1, count)[0].tolist() for count in (1, 4, 30)]


def search(engine: Engine, how: BeamSearch, count: int, stop_token_ids: list[int], **sampling: Any) -> list[Any]:
    config = dataclasses.replace(engine.model.config, eos_token_ids=tuple(stop_token_ids))
    engine = dataclasses.replace(engine, model=dataclasses.replace(engine.model, config=config))
    return [engine.beam_search(Request(one, count, SamplingParams(0, **sampling)), how) for one in PROMPTS]


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [1.0, -1.5, 0.0, 2.0])
@pytest.mark.parametrize(("num_beams", "stop_token_ids"), [(2, []), (3, [201]), (5, list(range(100, 140)))])
def test_beams_match_transformers(
    engine: Engine, early_stopping: Any, length_penalty: float, num_beams: int, stop_token_ids: list[int]
) -> None:
    found = search(engine, BeamSearch(num_beams, length_penalty, early_stopping), 12, stop_token_ids)
    assert_matches_transformers(
        found, num_beams, stop_token_ids, early_stopping=early_stopping, length_penalty=length_penalty
    )


@pytest.mark.parametrize("option", [{"repetition_penalty": 1.8}, {"no_repeat_ngram_size": 1}, {"min_new_tokens": 7}])
def test_beams_with_processors_match_transformers(engine: Engine, option: dict[str, Any]) -> None:
    stop_token_ids = list(range(0, 300, 5))
    found = search(engine, BeamSearch(4), 12, stop_token_ids, **option)
    assert_matches_transformers(found, 4, stop_token_ids, **option)
    assert any(one.finish_reason == "stop" for beams in found for one in beams)


def assert_matches_transformers(found: list[Any], num_beams: int, stop_token_ids: list[int], **options: Any) -> None:
    settings = GenerationConfig(
        num_beams=num_beams,
        num_return_sequences=num_beams,
        max_new_tokens=12,
        eos_token_id=stop_token_ids or None,
        pad_token_id=310,
        suppress_tokens=SUPPRESSED,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    for prompt, beams in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([prompt])
        theirs: Any = reference_model().generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        assert [one.score for one in beams] == pytest.approx(theirs.sequences_scores.tolist(), rel=1e-4)
        for one, row in zip(beams, theirs.sequences[:, len(prompt) :].tolist(), strict=True):
            tokens = [id_ for id_ in row if id_ != 310]
            ended = bool(tokens) and tokens[-1] in stop_token_ids
            assert one.tokens == (tokens[:-1] if ended else tokens)
            assert one.finish_reason == ("stop" if ended else "length")


class TorchSession:
    """A stand-in for `Session` that runs a PyTorch model, so that many models need no compilation."""

    def __init__(self, model: Any, slots: int) -> None:
        self.lengths, self._model, self._tokens = np.zeros(slots, np.int64), model, [list[int]() for _ in range(slots)]

    def extend(self, new_tokens: Mapping[int, Sequence[int]]) -> list[np.ndarray]:
        for slot, ids in new_tokens.items():
            self._tokens[slot] += ids
            self.lengths[slot] += len(ids)
        return [reference_logits(self._model, np.array([self._tokens[slot]]))[0] for slot in new_tokens]

    def copy(self, source: int, target: int, length: int) -> None:
        self._tokens[target] = self._tokens[source][:length]
        self.lengths[target] = length


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 0.7, 3.0])
@pytest.mark.parametrize("stop_token_ids", [[3], [3, 4, 5, 6], list(range(3, 20))])
def test_early_finished_beams_match_transformers(
    early_stopping: Any, length_penalty: float, stop_token_ids: list[int]
) -> None:
    how = BeamSearch(3, length_penalty, early_stopping)
    options = {"early_stopping": early_stopping, "length_penalty": length_penalty}
    for seed in range(6):
        torch.manual_seed(seed)
        sizes: dict[str, Any] = {"vocab_size": 25, "n_positions": 20, "n_embd": 8, "n_layer": 1, "n_head": 2}
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, initializer_range=0.6)).eval()
        constraints = BeamConstraints([], 25, stop_token_ids, 12)
        found = search_beams(cast(Session, TorchSession(model, 3)), [7, 8], how, constraints)
        settings = GenerationConfig(
            num_beams=3,
            num_return_sequences=3,
            max_new_tokens=12,
            eos_token_id=stop_token_ids,
            pad_token_id=stop_token_ids[0],
            return_dict_in_generate=True,
            output_scores=True,
            **options,
        )
        ids = torch.tensor([[7, 8]])
        theirs: Any = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        width = theirs.sequences.shape[1] - 2
        ours = [[*beam.tokens, *stop_token_ids[:1] * (width - len(beam.tokens))] for beam in found]
        assert ours == theirs.sequences[:, 2:].tolist()
        scores = [how.score(beam.logprob, len(beam.tokens)) for beam in found]
        assert scores == pytest.approx(theirs.sequences_scores.tolist(), rel=1e-4)


def test_one_beam_equals_greedy_decoding(engine: Engine) -> None:
    (beam,) = search(engine, BeamSearch(1), 12, [])[1]
    greedy = engine.generate(Request(PROMPTS[1], 12, SamplingParams(0, bad_words=[[299]])))
    assert beam.tokens == greedy.tokens
    assert beam.text == greedy.text


def test_beams_stop_at_the_end_of_the_context(engine: Engine) -> None:
    prompt = random_ids(1, 65)[0].tolist()
    assert {len(one.tokens) for one in engine.beam_search(Request(prompt, 9), BeamSearch(3))} <= {1, 2, 3}


def test_public_method_sorts_beams_and_rejects_sampling_options(engine: Engine) -> None:
    gpt2 = GPT2(engine)
    beams = gpt2.beam_search("The dog", num_beams=3, max_new_tokens=5)
    assert [one.score for one in beams] == sorted((one.score for one in beams), reverse=True)
    assert all(one.text == gpt2.tokenizer.decode(one.tokens) for one in beams)
    assert gpt2.beam_search("The dog", num_beams=3, max_new_tokens=5, no_repeat_ngram_size=1)
    refused: dict[str, dict[str, Any]] = {
        "support temperature, seed": {"temperature": 1, "seed": 2},
        "support stop, logprobs": {"stop": ["a"], "logprobs": 1},
        "max_new_tokens 0": {"max_new_tokens": 0},
        "num_beams 0": {"num_beams": 0},
        "length_penalty nan": {"length_penalty": math.nan},
    }
    for message, options in refused.items():
        with pytest.raises(RequestError, match=message):
            gpt2.beam_search("The dog", **options)
