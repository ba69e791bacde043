"""Score texts: surprisals of tokens, words, sentences, lines or whole texts."""

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from max_gpt2.errors import MissingExtraError
from max_gpt2.scoring.html import render
from max_gpt2.scoring.options import ScoreOptions
from max_gpt2.scoring.units import divide

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Alternative:
    """A likely token at a position: its id, its text and its log probability, in the base of the score."""

    id: int
    text: str
    logprob: float


@dataclass(frozen=True)
class UnitScore:
    """The score of a unit of a text; logarithms have the base of the score.

    Attributes:
        text: The unit, `Score.text[start:end]`; of a token, its `Score.token_texts`.
        start: Its first character.
        end: The character after its last one.
        first_token: The index of its first token.
        tokens: The number of its tokens.
        counted: The number of its tokens that have a log probability: without BOS, the first token of a text has none.
        logprob: The sum of the log probabilities of these tokens; NaN if there are none.
        context: The number of ids, BOS included, that the first token was conditioned on.
        rank: The rank of the first token, 1 for the most likely one; None unless requested.
        entropy: The entropy of the distribution of the first token; None unless requested.
        top: The most likely tokens in place of the first one, best first; None unless requested.

    """

    text: str
    start: int
    end: int
    first_token: int
    tokens: int
    counted: int
    logprob: float
    context: int
    rank: int | None = None
    entropy: float | None = None
    top: list[Alternative] | None = None

    @property
    def surprisal(self) -> float:
        """The negative log probability."""
        return 0.0 - self.logprob  # not -0.0


@dataclass(frozen=True, repr=False, eq=False)
class Score:
    """The score of one text. Logarithms have the base of `options`.

    Attributes:
        text: The text; of token ids, the decoded text.
        tokens: The token ids, without BOS.
        token_texts: The text of each token; bytes that are not valid UTF-8 are escaped.
        spans: The first character of each token in `text`, and the one after its last: [tokens, 2] of int64.
        logprobs: The log probability of each token; NaN for the first one without BOS: [tokens] of float64.
        contexts: The number of ids, BOS included, that each token was conditioned on: [tokens] of int64.
        options: The options, with the window and stride that were used.
        ranks: The rank of each token, 1 for the most likely one and 0 for a token without one: [tokens] of int64.
        entropies: The entropy of the distribution of each token: [tokens] of float64.
        top_ids: The most likely ids, best first, -1 for a token without them: [tokens, top] of int64.
        top_logprobs: Their log probabilities: [tokens, top] of float64.
        top_texts: The texts of the ids in `top_ids`.

    `ranks`, `entropies` and the attributes with `top` are None unless the options request them.

    """

    text: str
    tokens: list[int]
    token_texts: list[str]
    spans: np.ndarray
    logprobs: np.ndarray
    contexts: np.ndarray
    options: ScoreOptions
    ranks: np.ndarray | None = None
    entropies: np.ndarray | None = None
    top_ids: np.ndarray | None = None
    top_logprobs: np.ndarray | None = None
    top_texts: dict[int, str] | None = None

    @property
    def counted(self) -> int:
        """The number of tokens that have a log probability."""
        return int(np.count_nonzero(~np.isnan(self.logprobs)))

    @property
    def logprob(self) -> float:
        """The sum of the log probabilities; 0 for a text without tokens."""
        return math.fsum(self.logprobs[~np.isnan(self.logprobs)])

    @property
    def surprisal(self) -> float:
        """The negative of `logprob`."""
        return 0.0 - self.logprob  # not -0.0

    @property
    def perplexity(self) -> float:
        """The perplexity per counted token, for which the base has no meaning; NaN for a text without tokens."""
        return perplexity(self.logprob * self.options.log_of_base, self.counted)

    @property
    def bits_per_byte(self) -> float:
        """The surprisal in bits, divided by the UTF-8 bytes of the text; NaN for an empty text."""
        length = len(self.text.encode())
        return self.surprisal * self.options.log_of_base / math.log(2) / length if length else math.nan

    @cached_property
    def units(self) -> list[UnitScore]:
        """The units of the text, as `options.unit` divides it."""
        logprobs, contexts = self.logprobs.tolist(), self.contexts.tolist()
        ranks, entropies = _to_list(self.ranks), _to_list(self.entropies)
        is_token = self.options.unit == "token"
        units = []
        for span in divide(self.text, self.spans, self.options.unit):
            first = span.first_token
            valid = [one for one in logprobs[first : first + span.tokens] if not math.isnan(one)]
            has_distribution = not math.isnan(logprobs[first])
            unit = UnitScore(
                self.token_texts[first] if is_token else self.text[span.start : span.end],
                span.start,
                span.end,
                first,
                span.tokens,
                counted=len(valid),
                logprob=math.fsum(valid) if valid else math.nan,
                context=contexts[first],
                rank=ranks[first] if ranks and has_distribution else None,
                entropy=entropies[first] if entropies and has_distribution else None,
                top=self._top(first) if has_distribution else None,
            )
            units.append(unit)
        return units

    def rows(self) -> list[dict[str, Any]]:
        """Return a dictionary of JSON values for each unit; None stands for a missing value.

        The keys are `id` (for tokens only), `text`, `start`, `end`, `first_token`, `tokens`, `counted` (these three not
        for tokens), `context`, `logprob`, `surprisal`, and, if requested, `rank`, `entropy` and `top`.
        """
        return [self._row(unit) for unit in self.units]

    def to_dict(self) -> dict[str, Any]:
        """Return the score as JSON values: the text, its token ids, the options, the totals, and `rows` as `units`."""
        options = self.options
        return {
            "text": self.text,
            "tokens": self.tokens,
            "bos": options.bos,
            "unit": options.unit,
            "base": options.base,
            "window": options.window,
            "stride": options.stride,
            "word_boundary_correction": options.word_boundary_correction,
            "counted": self.counted,
            "logprob": self.logprob,
            "surprisal": self.surprisal,
            "perplexity": _number(self.perplexity),
            "bits_per_byte": _number(self.bits_per_byte),
            "units": self.rows(),
        }

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a DataFrame with a row for each unit, and the columns of `rows`.

        Raises MissingExtraError without pandas.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingExtraError(f"A DataFrame needs pandas ({error}). Install it: pip install pandas") from error
        rows = self.rows()
        names = list(rows[0]) if rows else list(self._row(_EMPTY_UNIT))
        return pandas.DataFrame(
            {name: pandas.Series([row[name] for row in rows], dtype=_PANDAS_TYPES[name]) for name in names}
        )

    def __repr__(self) -> str:
        shown = self.text if len(self.text) <= 40 else f"{self.text[:40]}…"
        surprisal = f"{self.surprisal:.4f} {self.options.unit_of_information}"
        return f"Score({shown!r}, tokens={len(self.tokens)}, surprisal={surprisal}, perplexity={self.perplexity:.4f})"

    def _repr_html_(self) -> str:
        """Return the text as HTML for a notebook, with units colored by their surprisal."""
        return render(self.text, self.units, self.options)

    def _top(self, token: int) -> list[Alternative] | None:
        if self.top_ids is None or self.top_logprobs is None or self.top_texts is None:
            return None
        pairs = zip(self.top_ids[token].tolist(), self.top_logprobs[token].tolist(), strict=True)
        return [Alternative(id_, self.top_texts[id_], logprob) for id_, logprob in pairs]

    def _row(self, unit: UnitScore) -> dict[str, Any]:
        is_token = self.options.unit == "token"
        row: dict[str, Any] = {"id": self.tokens[unit.first_token] if self.tokens else None} if is_token else {}
        row |= {"text": unit.text, "start": unit.start, "end": unit.end}
        if not is_token:
            row |= {"first_token": unit.first_token, "tokens": unit.tokens, "counted": unit.counted}
        row |= {"context": unit.context, "logprob": _number(unit.logprob), "surprisal": _number(unit.surprisal)}
        if self.options.ranks:
            row["rank"] = unit.rank
        if self.options.entropy:
            row["entropy"] = unit.entropy
        if self.options.top:
            row["top"] = None if unit.top is None else [asdict(one) for one in unit.top]
        return row


_EMPTY_UNIT = UnitScore("", 0, 0, 0, 0, 0, math.nan, 0)
_INTEGER_COLUMNS = ("id", "start", "end", "first_token", "tokens", "counted", "context")
_PANDAS_TYPES = {
    **dict.fromkeys(_INTEGER_COLUMNS, "int64"),
    **dict.fromkeys(("logprob", "surprisal", "entropy"), "float64"),
    "rank": "Int64",  # the first token has no rank without BOS
    "text": "object",
    "top": "object",
}


def _to_list(array: np.ndarray | None) -> list[Any] | None:
    return None if array is None else array.tolist()


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def perplexity(logprob: float, count: int) -> float:
    """Return exp(-logprob / count) for a natural logarithm: infinity on overflow, NaN for a count of 0."""
    try:
        return math.exp(-logprob / count) if count else math.nan
    except OverflowError:
        return math.inf
