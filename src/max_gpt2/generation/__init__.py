"""From logits to text."""

from max_gpt2.generation.beam_text import BeamText
from max_gpt2.generation.beams import BeamSearch
from max_gpt2.generation.engine import BATCH_SIZE, Engine
from max_gpt2.generation.logprobs import TokenLogprob
from max_gpt2.generation.opened import Loaded, OpenedModel, open_model
from max_gpt2.generation.request import Request, check_prompt, check_request, encode_prompt, fresh_seed
from max_gpt2.generation.result import Generation, Step, Timing
from max_gpt2.generation.sampling import Sampling, make_sampler
from max_gpt2.generation.score import Score, check_score, perplexity, score

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
