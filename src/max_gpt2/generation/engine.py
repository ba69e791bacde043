"""Writing text with a compiled model."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.generation.sampling import make_sampler
from max_gpt2.model import CompiledModel
from max_gpt2.tokenizer import GPT2Tokenizer


@dataclass(frozen=True)
class Generation:
    """What was written: `text` is the continuation of the prompt, `tokens` its ids; times are in seconds."""

    prompt_tokens: list[int]
    tokens: list[int]
    text: str
    finish_reason: Literal["length", "stop"]
    seed: int
    prefill_s: float
    decode_tokens_per_s: float | None


@dataclass(frozen=True)
class Engine:
    """A compiled model with its tokenizer."""

    model: CompiledModel
    tokenizer: GPT2Tokenizer

    def generate(
        self,
        prompt_tokens: Sequence[int],
        *,
        max_new_tokens: int,
        temperature: float = 0.8,
        top_k: int = 0,
        seed: int | None = None,
    ) -> Generation:
        """Continue a prompt until an end-of-text token ("stop") or `max_new_tokens` ("length").

        Without a seed one is drawn and reported. An id that the tokenizer does not have is never produced. Raises
        RequestError for an impossible option, and when prompt and new tokens together exceed the context.
        """
        prompt = check_request(self.model.config, prompt_tokens, max_new_tokens)
        seed = secrets.randbelow(2**31) if seed is None else seed
        sample = make_sampler(temperature, top_k, seed)
        tokens: list[int] = []
        stamps = [time.perf_counter()]  # the start, then after each token; the first of these is the prefill
        finish_reason: Literal["length", "stop"] = "length"
        while len(tokens) < max_new_tokens:
            row = np.array([prompt + tokens])
            logits = self.model.logits(row, first=row.shape[1] - 1)[0, -1]  # [vocab]
            token = sample(logits[: self.tokenizer.size])
            stamps.append(time.perf_counter())
            if token in self.model.config.eos_token_ids:
                finish_reason = "stop"
                break
            tokens.append(token)
        prefilled = stamps[1] if len(stamps) > 1 else stamps[0]
        return Generation(
            prompt_tokens=prompt,
            tokens=tokens,
            text=self.tokenizer.decode(tokens),
            finish_reason=finish_reason,
            seed=seed,
            prefill_s=prefilled - stamps[0],
            decode_tokens_per_s=(len(stamps) - 2) / (stamps[-1] - prefilled) if len(stamps) > 2 else None,
        )


def encode_prompt(tokenizer: GPT2Tokenizer, prompt: str) -> list[int]:
    """Return a prompt's ids; an empty prompt is one end-of-text token, with which GPT-2 starts a text."""
    return tokenizer.encode(prompt) or [tokenizer.end_of_text]


def check_request(config: GPT2Config, prompt_tokens: Sequence[int], max_new_tokens: int) -> list[int]:
    """Return the prompt as a list, or raise RequestError: no ids, ids out of range, or no room in the context."""
    prompt = list(prompt_tokens)
    if not prompt:
        raise RequestError("The prompt has no tokens. Give at least one id, or an empty text to start from nothing.")
    if strangers := [id_ for id_ in prompt if not 0 <= id_ < config.vocab_size]:
        raise RequestError(f"The prompt id {strangers[0]} is not in 0 .. {config.vocab_size - 1}. Remove it.")
    if max_new_tokens < 0:
        raise RequestError(f"max_new_tokens {max_new_tokens} is negative. Use a number from 0 on.")
    if len(prompt) + max_new_tokens > config.n_positions:
        raise RequestError(
            f"The prompt's {len(prompt)} tokens and max_new_tokens {max_new_tokens} exceed the model's context of "
            f"{config.n_positions}. Shorten the prompt, or ask for at most {max(0, config.n_positions - len(prompt))}."
        )
    return prompt
