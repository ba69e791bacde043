"""Keep the verdict of `max-gpt2 verify` on a checkpoint, so that other commands can show it."""

import json
import math
import shlex
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path

import max_gpt2
from max_gpt2._files import json_text, write_text
from max_gpt2.errors import MaxGPT2Error
from max_gpt2.model.compile_cache import compiled_files
from max_gpt2.verify.report import Report


@dataclass(frozen=True)
class Verdict:
    """The result of the last verification of a checkpoint with PyTorch, for the default kernels.

    Attributes:
        passed: True if every probe was within the bounds, and the tokenizers were equal.
        max_abs_diff: The largest difference of a logit; infinite if a logit was not finite.
        criterion: The bound that held for the logits, or both if neither did.
        divergence: The first probe out of bounds and by how much, or the tokenizer; empty if it passed.
        date: The day, in UTC, such as "2026-11-29".
        version: The version of max-gpt2.
        max_version: The version of MAX.

    """

    passed: bool
    max_abs_diff: float
    criterion: str
    divergence: str
    date: str
    version: str
    max_version: str

    @classmethod
    def of(cls, report: Report) -> "Verdict":
        """Return the verdict of a report of today, with the versions that are installed."""
        values, today = report.to_json(), datetime.now(tz=UTC).date().isoformat()
        named = (report.passed, values["max_abs_diff"], values["criterion"], _divergence(report))
        return cls(*named, today, max_gpt2.__version__, metadata.version("max"))

    @property
    def is_current(self) -> bool:
        """True if max-gpt2 and MAX have the versions that were verified."""
        return (self.version, self.max_version) == (max_gpt2.__version__, metadata.version("max"))

    @property
    def text(self) -> str:
        """One sentence with the result, the day and the versions."""
        versions = f"max-gpt2 {self.version}, MAX {self.max_version}"
        if not self.is_current:
            versions += f"; now max-gpt2 {max_gpt2.__version__}, MAX {metadata.version('max')}: verify it again"
        if self.passed:
            return f"Verified on {self.date}: logits equal PyTorch's within {self.max_abs_diff:.1e} ({versions})."
        return f"Not equal to PyTorch on {self.date}: {self.divergence} ({versions})."


def _divergence(report: Report) -> str:
    if first := report.first_divergence:
        return f"{first.name} differs by {first.difference.max_abs_diff:.1e}"
    return "" if report.passed else "the tokenizer gives other ids or texts"


def describe(verdict: Verdict | None, model: str) -> str:
    """Return the sentence of a verdict, or how to verify the model."""
    return f"Not verified yet. Run: max-gpt2 verify --model {shlex.quote(model)}" if verdict is None else verdict.text


def save_verdict(fingerprint: str, report: Report) -> None:
    """Keep the verdict of a report in the cache folder, by the fingerprint of the model; ignore a read-only folder."""
    path = _path(fingerprint)
    if path is None:
        return
    with suppress(OSError, MaxGPT2Error):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json_text(asdict(Verdict.of(report))) + "\n")


def read_verdict(fingerprint: str) -> Verdict | None:
    """Return the verdict that was kept for a model; None without one, or if its file is damaged."""
    path = _path(fingerprint)
    try:
        return None if path is None else _parse(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _parse(values: dict[str, object]) -> Verdict:
    """Return a verdict from JSON; raises ValueError, TypeError or KeyError unless every field has its type."""
    texts = {name: values[name] for name in ("criterion", "divergence", "date", "version", "max_version")}
    passed, difference = values["passed"], values["max_abs_diff"]
    largest = math.inf if difference is None else difference  # JSON has no infinity
    if (
        not isinstance(passed, bool)
        or not isinstance(largest, float)
        or not all(isinstance(one, str) for one in texts.values())
    ):
        raise TypeError("a field has another type")
    date.fromisoformat(str(texts["date"]))
    return Verdict(passed, largest, **{name: str(one) for name, one in texts.items()})


def _path(fingerprint: str) -> Path | None:
    folder = compiled_files()
    return folder / "verdicts" / f"{fingerprint}.json" if folder else None
