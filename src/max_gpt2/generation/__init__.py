"""From logits to text."""

from max_gpt2.generation.engine import Engine, Generation, check_request, encode_prompt
from max_gpt2.generation.oneshot import OneShot, Request, generate_once
from max_gpt2.generation.sampling import Sampler, make_sampler

__all__ = [
    "Engine",
    "Generation",
    "OneShot",
    "Request",
    "Sampler",
    "check_request",
    "encode_prompt",
    "generate_once",
    "make_sampler",
]
