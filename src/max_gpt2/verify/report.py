"""What a verification found."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from max_gpt2.verify.compare import Difference, LogitsDifference, agreement, worst
from max_gpt2.verify.models import Prompt

WTE, LOGITS = "wte", "logits"


@dataclass(frozen=True)
class PromptResult:
    """One prompt: the differences of its hidden states, by name, and of its logits, and what both wrote after it."""

    prompt: Prompt
    states: dict[str, Difference]
    logits: LogitsDifference
    greedy_tokens: int
    greedy_match: bool
    text: str
    texts: tuple[str, str]


@dataclass(frozen=True)
class Place:
    """A hidden state, or the logits: the difference of the prompt on which it is the worst."""

    name: str
    prompt: str
    difference: Difference


@dataclass(frozen=True)
class Report:
    """What a verification found. Times are in seconds; the memory is the peak of this process.

    `sides` are the names of the two that were compared, such as MAX and PyTorch; `reference` says what the second is.
    `wte` is the difference of all rows of the token embeddings, most of which no prompt looks up.
    """

    model: str
    sides: tuple[str, str]
    reference: str
    wte: Difference
    results: Sequence[PromptResult]
    timing: dict[str, float]
    peak_memory_bytes: int

    @property
    def logits(self) -> list[LogitsDifference]:
        """The difference of each prompt's logits."""
        return [result.logits for result in self.results]

    @property
    def places(self) -> list[Place]:
        """`wte`, all hidden states in the order in which they are computed, and the logits."""
        rows = [{**result.states, LOGITS: result.logits} for result in self.results]
        return [Place(WTE, "every id", self.wte), *(self._place(name, [row[name] for row in rows]) for name in rows[0])]

    def _place(self, name: str, differences: list[Difference]) -> Place:
        most = worst(differences)
        return Place(name, self.results[differences.index(most)].prompt.name, most)

    @property
    def first_difference(self) -> Place | None:
        """The first place at which the two sides part by more than rounding."""
        return next((place for place in self.places if not place.difference.equal), None)

    @property
    def passed(self) -> bool:
        """Whether the two are equal everywhere on every prompt."""
        return self.first_difference is None

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        first = self.first_difference
        return {
            "model": self.model,
            "sides": list(self.sides),
            "reference": self.reference,
            "passed": self.passed,
            "criterion": worst(self.logits).criterion,
            "max_abs_diff": max(one.max_abs_diff for one in self.logits),
            "max_rel_diff": max(one.max_rel_diff for one in self.logits),
            "argmax_agreement": agreement(self.logits),
            "greedy_match": all(result.greedy_match for result in self.results),
            "first_difference": first and _place_facts(first),
            "places": [_place_facts(place) for place in self.places],
            "prompts": [
                {
                    "name": result.prompt.name,
                    "tokens": len(result.prompt.tokens),
                    **_facts(result.logits),
                    "greedy_tokens": result.greedy_tokens,
                    "greedy_match": result.greedy_match,
                    "text": result.text,
                    "texts": list(result.texts),
                    "places": [{"place": name, **_facts(one)} for name, one in result.states.items()],
                }
                for result in self.results
            ],
            "timing": self.timing,
            "peak_memory_bytes": self.peak_memory_bytes,
        }


def _place_facts(place: Place) -> dict[str, Any]:
    return {"place": place.name, "prompt": place.prompt, **_facts(place.difference)}


def _facts(difference: Difference) -> dict[str, Any]:
    return {**asdict(difference), "passed": difference.equal, "criterion": difference.criterion}
