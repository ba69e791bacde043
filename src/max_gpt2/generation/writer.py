"""One text that is being written."""

import numpy as np

from max_gpt2.config import GPT2Config
from max_gpt2.generation.history import History
from max_gpt2.generation.logprobs import token_logprob
from max_gpt2.generation.request import Request
from max_gpt2.generation.result import FinishReason, Step
from max_gpt2.generation.sampling import make_sampler
from max_gpt2.generation.text_stream import TextStream
from max_gpt2.tokenizer import GPT2Tokenizer


class Writer:
    """Chooses one id after another, and says what the model has to read for the next: `new`.

    `anew` says that `new` takes the place of all that the model has read, since the text has outgrown the context.
    """

    def __init__(self, config: GPT2Config, tokenizer: GPT2Tokenizer, request: Request, seed: int) -> None:
        """Start after the prompt of a request that was checked."""
        self.seed = seed
        self._most, self._logprobs = request.max_new_tokens, request.logprobs
        self._endings = {*config.eos_token_ids, *request.stop_ids}
        self._sample = make_sampler(request.sampling, seed, tokenizer.size, sorted(self._endings))
        self._history, self._stream = History(list(request.prompt_tokens)), TextStream(tokenizer, request.stop)
        self._context, self._slides = config.n_positions, request.context_overflow == "slide"
        self.new = self._history.prompt
        if len(self.new) > self._context:
            self.new = self._last_half()
        self.anew = False
        self._read = 0

    def step(self, logits: np.ndarray) -> Step:
        """Choose from the logits [vocab] after `new`."""
        if self._most == 0:
            return Step(None, "", finish_reason="length")
        self._read = len(self.new) if self.anew else self._read + len(self.new)
        token = self._sample(logits, self._history)
        if token in self._endings:
            return Step(None, self._stream.end(), finish_reason="stop")
        self._history.written.append(token)
        piece = self._stream.add(token)
        logprob = None if self._logprobs is None else token_logprob(logits, token, self._logprobs)
        reason = self._reason_to_end()
        if reason == "length":
            piece += self._stream.end()
        self.anew = self._read == self._context
        self.new = self._last_half() if self.anew else [token]
        return Step(token, piece, logprob, reason)

    def _reason_to_end(self) -> FinishReason | None:
        if self._stream.stopped:
            return "stop"
        full = self._read == self._context and not self._slides
        return "length" if full or len(self._history.written) == self._most else None

    def _last_half(self) -> list[int]:
        """Return the part of the text that is kept when the context slides, half of what it holds."""
        return [*self._history.prompt, *self._history.written][-max(1, self._context // 2) :]
