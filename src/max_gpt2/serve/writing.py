"""A text that is being written by the server: what it is drawn with, and how likely its tokens were."""

import logging
from dataclasses import dataclass, field

import numpy as np
from max.pipelines.context import LogProbabilities, TextContext

from max_gpt2.errors import RequestError
from max_gpt2.generation.logits import History, Sampler, TokenLogprob, make_sampler, token_logprob
from max_gpt2.serve.batch import keeps_all
from max_gpt2.serve.sampling import sampling_of

logger = logging.getLogger("max_gpt2.serve")


@dataclass
class Writing:
    """Lives as long as its request. `logprobs` are those of the last step."""

    sample: Sampler
    prompt_length: int
    echoed: list[TokenLogprob] = field(default_factory=list)
    logprobs: LogProbabilities | None = None
    begun: bool = False

    @classmethod
    def of(cls, text: TextContext, size: int) -> "Writing":
        """Start; `size` is how many ids the tokenizer has."""
        sampling, seed = sampling_of(text)
        sample = make_sampler(sampling, seed, size, sorted(text.eos_tracker.eos_token_ids))
        return cls(sample, text.tokens.prompt_length)

    def step(self, text: TextContext, logits: np.ndarray) -> int:
        """Choose the next token from logits [kept, vocab]; 0 if only a part of a prompt was read."""
        asked, tokens = text.log_probabilities, text.tokens
        self.logprobs = None
        if keeps_all(text) and not self.begun:
            self._echo(text, logits)
        if tokens.actively_chunked:
            return 0
        # A text that had to give its place away comes back with what was written as a part of its prompt.
        every = tokens.all.tolist()
        try:
            token = self.sample(logits[-1], History(every[: self.prompt_length], every[self.prompt_length :]))
        except RequestError as error:  # no number is larger than another, as with weights that are not finite
            logger.warning("The text %s ends: %s", text.request_id, error)
            token = min(text.eos_tracker.eos_token_ids, default=0)
        self.begun = True
        if asked:
            self.logprobs = _as_max_has_it([*self.echoed, token_logprob(logits[-1], token, asked)])
            self.echoed = []
        return token

    def _echo(self, text: TextContext, logits: np.ndarray) -> None:
        """Note how likely the prompt's own tokens are; its first one has nothing before it."""
        start = text.tokens.processed_length + 1
        following = text.tokens.all[start : min(start + len(logits), self.prompt_length)].tolist()
        self.echoed += [
            token_logprob(row, token, text.log_probabilities) for row, token in zip(logits, following, strict=False)
        ]


def _as_max_has_it(found: list[TokenLogprob]) -> LogProbabilities:
    return LogProbabilities(
        token_log_probabilities=[one.logprob for one in found],
        top_log_probabilities=[{**one.top, one.token: one.logprob} for one in found],
        sampled_token_ids=[one.token for one in found],
    )
