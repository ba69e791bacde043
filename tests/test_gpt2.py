"""The keyword options of the public class."""

from dataclasses import fields

from max_gpt2.generation import Request, SamplingParams
from max_gpt2.generation.params import BeamSearchOptions, GenerationOptions
from max_gpt2.gpt2 import _SAMPLING_ONLY
from max_gpt2.scoring import ScoreKeywords, ScoreOptions


def test_keyword_options_match_sampling_params_and_request() -> None:
    names = {field.name for kind in (SamplingParams, Request) for field in fields(kind)}
    assert GenerationOptions.__annotations__.keys() == names - {"prompt_tokens", "sampling"}


def test_beam_search_declares_every_supported_option() -> None:
    refused = {*_SAMPLING_ONLY, "stop", "logprobs", "context_overflow"}
    assert BeamSearchOptions.__annotations__.keys() == GenerationOptions.__annotations__.keys() - refused


def test_score_declares_every_option() -> None:
    options = {field.name: field.type for field in fields(ScoreOptions)}
    assert ScoreKeywords.__annotations__ == options
