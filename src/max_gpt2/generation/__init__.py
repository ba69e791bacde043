"""From logits to text."""

from max_gpt2.generation.beam_search import BeamSearch, BeamText
from max_gpt2.generation.engine import (
    BATCH_SIZE,
    Engine,
    Loaded,
    OpenedModel,
    check_request,
    check_score,
    open_model,
    score,
)
from max_gpt2.generation.logits import TokenLogprob, make_sampler
from max_gpt2.generation.outputs import Generation, Score, Step, Timing, perplexity
from max_gpt2.generation.params import Request, Sampling, check_prompt, encode_prompt, fresh_seed

__all__ = [
    "BATCH_SIZE",
    "BeamSearch",
    "BeamText",
    "Engine",
    "Generation",
    "Loaded",
    "OpenedModel",
    "Request",
    "Sampling",
    "Score",
    "Step",
    "Timing",
    "TokenLogprob",
    "check_prompt",
    "check_request",
    "check_score",
    "encode_prompt",
    "fresh_seed",
    "make_sampler",
    "open_model",
    "perplexity",
    "score",
]
