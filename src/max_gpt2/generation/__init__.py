"""Text generation and scoring: requests, sampling, continuous batching, beam search."""

from max_gpt2.generation.beam_search import BeamOutput, BeamSearch
from max_gpt2.generation.engine import (
    BATCH_SIZE,
    Engine,
    Loaded,
    ModelSource,
    check_request,
    check_score,
    open_model,
    score,
)
from max_gpt2.generation.logits import TokenLogprob, make_sampler
from max_gpt2.generation.outputs import Generation, Score, Timing, TokenOutput, perplexity
from max_gpt2.generation.params import (
    Request,
    SamplingParams,
    check_prompt,
    encode_prompt,
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
    "Score",
    "Timing",
    "TokenLogprob",
    "TokenOutput",
    "check_prompt",
    "check_request",
    "check_score",
    "encode_prompt",
    "encode_words",
    "fresh_seed",
    "make_sampler",
    "open_model",
    "perplexity",
    "read_bad_words",
    "score",
]
