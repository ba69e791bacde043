"""What a beam search returns, and what it cannot do."""

from collections.abc import Sequence
from dataclasses import dataclass

from max_gpt2.errors import RequestError
from max_gpt2.generation.beams import Beam, BeamSearch
from max_gpt2.generation.request import Request
from max_gpt2.generation.result import FinishReason
from max_gpt2.tokenizer import GPT2Tokenizer


@dataclass(frozen=True)
class BeamText:
    """A text that was found: its ids after the prompt, without one that ended it.

    `logprob` is the natural logarithm of the probability of all ids, the ending included, after the penalties; `score`
    is what the texts are ranked by, `logprob` divided by the length to the power of `length_penalty`.
    """

    tokens: list[int]
    text: str
    finish_reason: FinishReason
    logprob: float
    score: float

    @classmethod
    def of(cls, beam: Beam, how: BeamSearch, endings: Sequence[int], tokenizer: GPT2Tokenizer) -> "BeamText":
        """Make one of what the search found."""
        stopped = beam.tokens[-1] in endings
        tokens = list(beam.tokens[:-1] if stopped else beam.tokens)
        score = how.score(beam.logprob, len(beam.tokens))
        return cls(tokens, tokenizer.decode(tokens), "stop" if stopped else "length", beam.logprob, score)


def check_beams(request: Request) -> None:
    """Raise RequestError when a request asks for what a beam search does not have."""
    asked = {
        "max_new_tokens 0": request.max_new_tokens == 0,
        "stop": bool(request.stop),
        "logprobs": request.logprobs is not None,
        "context_overflow": request.context_overflow != "stop",
    }
    if names := [name for name, is_asked in asked.items() if is_asked]:
        raise RequestError(f"A beam search does not go with {', '.join(names)}. Leave it out; stop_ids can end a text.")
