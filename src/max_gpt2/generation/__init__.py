"""Text generation: requests, sampling, continuous batching, beam search."""

from max_gpt2.generation.beam_search import BeamOutput, BeamSearch
from max_gpt2.generation.engine import (
    BATCH_SIZE,
    Engine,
    Loaded,
    ModelSource,
    check_request,
    open_model,
    open_speculation,
)
from max_gpt2.generation.logits import TokenLogprob, make_sampler
from max_gpt2.generation.outputs import Generation, Timing, TokenOutput
from max_gpt2.generation.params import (
    Request,
    SamplingParams,
    check_prompt,
    encode_prompt,
    encode_text,
    encode_words,
    fresh_seed,
    read_bad_words,
)

__all__ = [
    "BATCH_SIZE",
    "BeamOutput",
    "BeamSearch",
    "Engine",
    "Generation",
    "Loaded",
    "ModelSource",
    "Request",
    "SamplingParams",
    "Timing",
    "TokenLogprob",
    "TokenOutput",
    "check_prompt",
    "check_request",
    "encode_prompt",
    "encode_text",
    "encode_words",
    "fresh_seed",
    "make_sampler",
    "open_model",
    "open_speculation",
    "read_bad_words",
]
