"""The options of a score."""

import math
from dataclasses import dataclass, replace
from typing import Literal, TypedDict, get_args

from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError, listed
from max_gpt2.scoring.windows import check_window

#: The units that a text is divided into.
Unit = Literal["token", "word", "sentence", "line", "text"]
#: The base of all logarithms: nats, bits, or hartleys.
Base = Literal["e", "2", "10"]
#: The largest number of alternatives.
MAX_TOP = 100
_LOG_OF_BASE: dict[Base, float] = {"e": 1.0, "2": math.log(2), "10": math.log(10)}
_UNIT_OF_BASE: dict[Base, str] = {"e": "nats", "2": "bits", "10": "hartleys"}


@dataclass(frozen=True)
class ScoreOptions:
    """The options of a score. Raises RequestError that lists all invalid values.

    Attributes:
        bos: Start the sequence with the BOS token, so that the first token of the text has a probability.
        unit: The unit of `Score.units` and of the rows.
        base: The base of log probabilities, surprisals and entropies.
        window: The largest number of ids, BOS included, that a token is conditioned on; None for the model's context.
        stride: The number of tokens that each window after the first one scores; None for half the window.
        ranks: Return the rank of each token, 1 for the most likely one.
        entropy: Return the entropy of the distribution of each token.
        top: The number of most likely tokens to return for each token, at most 100.
        word_boundary_correction: Assign the probability of the end of a word to that word, not to the next one; see
            `max_gpt2.scoring.correction`.

    """

    bos: bool = True
    unit: Unit = "token"
    base: Base = "e"
    window: int | None = None
    stride: int | None = None
    ranks: bool = False
    entropy: bool = False
    top: int = 0
    word_boundary_correction: bool = False

    def __post_init__(self) -> None:
        problems = []
        if self.unit not in get_args(Unit):
            problems.append(f"unit {self.unit!r} is not one of {', '.join(get_args(Unit))}")
        if self.base not in get_args(Base):
            problems.append(f"base {self.base!r} is not one of {', '.join(get_args(Base))}")
        if not 0 <= self.top <= MAX_TOP:
            problems.append(f"top {self.top} is not in 0 .. {MAX_TOP}")
        if self.window is not None and self.window < 1:
            problems.append(f"window {self.window} is not a positive integer")
        if self.stride is not None and self.stride < 1:
            problems.append(f"stride {self.stride} is not a positive integer")
        if problems:
            raise RequestError(listed("Invalid options", problems, "Correct them."))

    def resolve(self, config: GPT2Config) -> "ScoreOptions":
        """Return the options with the window and stride that apply to a model.

        Raises RequestError for a window over the context, a stride over the window, or more alternatives than ids.
        """
        window = config.n_positions if self.window is None else self.window
        stride = max(1, window // 2) if self.stride is None else self.stride
        check_window(config.n_positions, window, stride)
        if self.top > config.vocab_size:
            raise RequestError(f"top {self.top} exceeds the vocabulary of {config.vocab_size} ids. Use a smaller one.")
        return replace(self, window=window, stride=stride)

    @property
    def log_of_base(self) -> float:
        """The natural logarithm of the base."""
        return _LOG_OF_BASE[self.base]

    @property
    def unit_of_information(self) -> str:
        """The unit of surprisals and entropies: nats, bits or hartleys."""
        return _UNIT_OF_BASE[self.base]


class ScoreKeywords(TypedDict, total=False):
    """The fields of `ScoreOptions` as keyword options."""

    bos: bool
    unit: Unit
    base: Base
    window: int | None
    stride: int | None
    ranks: bool
    entropy: bool
    top: int
    word_boundary_correction: bool
