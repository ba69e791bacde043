"""The keyword options of the public class."""

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("load", ["max_gpt2.GPT2.from_pretrained(model)", "load_scorer(open_model(model))"])
def test_pandas_works_after_a_model_is_loaded(load: str, tiny_original: Path) -> None:
    code = "import max_gpt2; from max_gpt2.generation import open_model; from max_gpt2.scoring import load_scorer; "
    code += f"model = {str(tiny_original)!r}; {load}; import pandas as pd; print(pd.Index(['a', 'b']).take([1])[0])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert (done.returncode, done.stdout) == (0, "b\n"), done.stderr
