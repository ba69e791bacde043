"""Writing text with a compiled model."""

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from max_gpt2.generation.history import History
from max_gpt2.generation.logprobs import TokenLogprob, token_logprob
from max_gpt2.generation.request import Request, check_request
from max_gpt2.generation.sampling import make_sampler
from max_gpt2.generation.text_stream import TextStream
from max_gpt2.model import CompiledModel
from max_gpt2.tokenizer import GPT2Tokenizer

FinishReason = Literal["length", "stop"]


@dataclass(frozen=True)
class Step:
    """One id that was written, the text that can be shown since the last, and how likely it was if that was asked.

    The last step has a `finish_reason`; it has no token when the text ended with one that is not part of it.
    """

    token: int | None
    piece: str
    logprob: TokenLogprob | None = None
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class Generation:
    """What was written: `text` is the continuation of the prompt, `tokens` its ids; times are in seconds.

    The text is cut before a stop string; `tokens` are all that were written. `logprobs` is empty unless asked for.
    """

    prompt_tokens: list[int]
    tokens: list[int]
    text: str
    finish_reason: FinishReason
    seed: int
    logprobs: list[TokenLogprob]
    prefill_s: float
    decode_tokens_per_s: float | None


@dataclass(frozen=True)
class Engine:
    """A compiled model with its tokenizer."""

    model: CompiledModel
    tokenizer: GPT2Tokenizer

    def steps(self, request: Request) -> Iterator[Step]:
        """Yield the ids as they are written: one step at least, the last of which says why it is the last.

        An id that the tokenizer does not have is never written; an engine never repeats itself without a seed. Raises
        RequestError at once when the request cannot be carried out.
        """
        check_request(self.model.config, self.tokenizer, request)
        return self._steps(request)

    def _steps(self, request: Request) -> Iterator[Step]:
        endings = {*self.model.config.eos_token_ids, *request.stop_ids}
        seed = request.sampling.seed
        sample = make_sampler(
            request.sampling, fresh_seed() if seed is None else seed, self.tokenizer.size, sorted(endings)
        )
        history, stream = History(list(request.prompt_tokens)), TextStream(self.tokenizer, request.stop)
        if request.max_new_tokens == 0:
            yield Step(None, "", finish_reason="length")
        session = self.model.session(1, len(history.prompt) + request.max_new_tokens)
        new = history.prompt
        while len(history.written) < request.max_new_tokens:
            logits = session.extend({0: new})[0][-1]  # [vocab]
            token = sample(logits, history)
            if token in endings:
                yield Step(None, stream.end(), finish_reason="stop")
                return
            history.written.append(token)
            new = [token]
            piece = stream.add(token)
            logprob = None if request.logprobs is None else token_logprob(logits, token, request.logprobs)
            if stream.stopped:
                yield Step(token, piece, logprob, "stop")
                return
            last = len(history.written) == request.max_new_tokens
            yield Step(token, piece + (stream.end() if last else ""), logprob, "length" if last else None)

    def generate(self, request: Request) -> Generation:
        """Carry a request out to its end; without a seed one is drawn and reported. Raises as `steps` does."""
        seed = fresh_seed() if request.sampling.seed is None else request.sampling.seed
        stamps = [time.perf_counter()]  # the start, then after each step; the first of these is the prefill
        steps = []
        for step in self.steps(request.with_seed(seed)):
            steps.append(step)
            stamps.append(time.perf_counter())
        return Generation(
            prompt_tokens=list(request.prompt_tokens),
            tokens=[step.token for step in steps if step.token is not None],
            text="".join(step.piece for step in steps),
            finish_reason=steps[-1].finish_reason or "length",
            seed=seed,
            logprobs=[step.logprob for step in steps if step.logprob],
            prefill_s=stamps[1] - stamps[0],
            decode_tokens_per_s=(len(stamps) - 2) / (stamps[-1] - stamps[1]) if len(stamps) > 2 else None,
        )


def fresh_seed() -> int:
    """Draw a seed."""
    return secrets.randbelow(2**31)
