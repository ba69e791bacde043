"""The report of a verification: differences of every compared tensor, and greedy continuations."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from max_gpt2.verify.compare import Difference, LogitsDifference, agreement, worst
from max_gpt2.verify.prompts import Prompt
from max_gpt2.verify.tokenizers import TokenizerCheck

WTE, LOGITS = "wte", "logits"


@dataclass(frozen=True)
class PromptResult:
    """The result for one prompt: differences of hidden states by name and of logits, and both continuations."""

    prompt: Prompt
    states: dict[str, Difference]
    logits: LogitsDifference
    greedy_tokens: int
    greedy_match: bool
    text: str
    continuations: tuple[str, str]


@dataclass(frozen=True)
class Probe:
    """A compared tensor (`wte`, a hidden state or the logits), with its worst difference and the prompt it is from."""

    name: str
    prompt: str
    difference: Difference


@dataclass(frozen=True)
class Report:
    """The result of a verification. Times are in seconds; the memory is the peak of this process.

    `implementations` names the two that were compared, such as MAX and PyTorch; `reference` describes the second one.
    `wte` is the difference over all rows of the token embeddings, most of which no prompt uses.
    """

    model: str
    implementations: tuple[str, str]
    reference: str
    wte: Difference
    results: Sequence[PromptResult]
    timing: dict[str, float]
    peak_memory_bytes: int
    tokenizer: TokenizerCheck | None = None

    @property
    def logits(self) -> list[LogitsDifference]:
        """The logits difference of each prompt."""
        return [result.logits for result in self.results]

    @property
    def probes(self) -> list[Probe]:
        """`wte`, all hidden states in the order in which they are computed, and the logits."""
        rows = [{**result.states, LOGITS: result.logits} for result in self.results]
        return [Probe(WTE, "every id", self.wte), *(self._probe(name, [row[name] for row in rows]) for name in rows[0])]

    def _probe(self, name: str, differences: list[Difference]) -> Probe:
        most = worst(differences)
        return Probe(name, self.results[differences.index(most)].prompt.name, most)

    @property
    def first_divergence(self) -> Probe | None:
        """The first probe, in order of computation, with a difference beyond tolerance; None if all are equal."""
        return next((probe for probe in self.probes if not probe.difference.equal), None)

    @property
    def passed(self) -> bool:
        """True if every probe is equal within tolerance on every prompt, and the tokenizers are equal."""
        return self.first_divergence is None and (self.tokenizer is None or self.tokenizer.passed)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        first = self.first_divergence
        return {
            "model": self.model,
            "implementations": list(self.implementations),
            "reference": self.reference,
            "passed": self.passed,
            "criterion": worst(self.logits).criterion,
            "max_abs_diff": max(one.max_abs_diff for one in self.logits),
            "max_rel_diff": max(one.max_rel_diff for one in self.logits),
            "argmax_agreement": agreement(self.logits),
            "greedy_match": all(result.greedy_match for result in self.results),
            "first_divergence": first and _probe_json(first),
            "probes": [_probe_json(probe) for probe in self.probes],
            "prompts": [
                {
                    "name": result.prompt.name,
                    "tokens": len(result.prompt.tokens),
                    **_difference_json(result.logits),
                    "greedy_tokens": result.greedy_tokens,
                    "greedy_match": result.greedy_match,
                    "text": result.text,
                    "continuations": list(result.continuations),
                    "probes": [{"probe": name, **_difference_json(one)} for name, one in result.states.items()],
                }
                for result in self.results
            ],
            "tokenizer": self.tokenizer
            and {**asdict(self.tokenizer), "passed": self.tokenizer.passed, "summary": self.tokenizer.describe()},
            "timing": self.timing,
            "peak_memory_bytes": self.peak_memory_bytes,
        }


def _probe_json(probe: Probe) -> dict[str, Any]:
    return {"probe": probe.name, "prompt": probe.prompt, **_difference_json(probe.difference)}


def _difference_json(difference: Difference) -> dict[str, Any]:
    return {**asdict(difference), "passed": difference.equal, "criterion": difference.criterion}
