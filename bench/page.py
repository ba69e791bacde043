"""Write benchmark results as a Markdown table, as JSON and as a plot."""

import datetime
import json
import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.bandwidth import bytes_per_token
from bench.measures import ALL, Measure
from max_gpt2.config import SIZES
from max_gpt2.weights import TYPES

REFERENCE = "transformers"
OURS = "max-gpt2"
LLAMA_CPP = "llama.cpp"
#: The matrix products of scoring through the kernels of max-gpt2, without anything else.
PRODUCTS = "matrix products alone"


def typed(name: str, type_: str) -> str:
    """Return the name of an implementation with weights that are not stored in float32."""
    return f"{name} {type_}"


def is_typed(name: str) -> bool:
    """Return True for the names that `typed` returns."""
    return name.rpartition(" ")[2] in TYPES


def float32_rows(rows: Sequence["Row"]) -> list["Row"]:
    """Return the rows with the implementations in float32 only."""
    return [
        Row(row.size, row.measure, {name: values for name, values in row.figures.items() if not is_typed(name)})
        for row in rows
    ]


@dataclass
class Row:
    """All values of one measure for one model size, by implementation and in the order they were taken."""

    size: str
    measure: Measure
    figures: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """Return the median of an implementation."""
        return statistics.median(self.figures[name])

    def ratio(self, name: str, to: str = REFERENCE) -> float:
        """Return how many times better than `to` an implementation is."""
        if self.measure.paired:
            pairs = zip(self.figures[name], self.figures[to], strict=True)
            return statistics.median(self.measure.ratio(ours, theirs) for ours, theirs in pairs)
        return self.measure.ratio(self.median(name), self.median(to))

    def line(self, names: Sequence[str]) -> str:
        """Return the row of the Markdown table."""
        cells = [f"{self.size}: {self.measure.name}"]
        for name in names:
            if name not in self.figures:
                cells.append("")
            elif name == REFERENCE or REFERENCE not in self.figures:
                cells.append(self.measure.text(self.median(name)))
            else:
                cells.append(f"{self.measure.text(self.median(name))} ({self.ratio(name):.2f})")
        return f"| {' | '.join(cells)} |"


def table(rows: Sequence[Row], *, stored: bool = False) -> str:
    """Return a Markdown table with one column per implementation; ratios to transformers are in brackets.

    The implementations are those in float32, or with `stored` the others.
    """
    names = [name for name in dict.fromkeys(name for row in rows for name in row.figures) if is_typed(name) == stored]
    rows = [row for row in rows if not row.figures.keys().isdisjoint(names)]
    head = [f"| | {' | '.join(names)} |", f"|{'---|' * (1 + len(names))}"]
    return "\n".join([*head, *(row.line(names) for row in rows)])


def machine() -> str:
    """Return the date, the processor and the versions."""
    date = datetime.datetime.now(tz=datetime.UTC).date()
    cores = f"{os.cpu_count()} cores of {_processor()}"
    return f"{date}: {cores}, Python {platform.python_version()}, MAX 26.7.0, PyTorch 2.13.0"


def results(rows: Sequence[Row], notes: Mapping[str, Any], skipped: Mapping[str, str]) -> str:
    """Return the table with its notes (as in the JSON) and the reasons for skipped implementations."""
    bandwidth = notes["bandwidth_bytes_per_s"]
    parts = [
        table(rows),
        *([table(rows, stored=True)] if "stored_bytes" in notes else []),
        f"Measured on {notes['measured']}.",
        f"Medians of {notes['runs']:.0f} runs.",
        f"Memory bandwidth (two PyTorch threads): {bandwidth / 1e9:.1f} GB/s. Share used by decode at batch 1:",
        "\n".join(f"- {one}" for one in _shares(rows, notes)),
    ]
    if "first_compile_s" in notes:
        seconds = notes["first_compile_s"]
        parts.append(f"Process start to first token with an empty compile cache, {OURS}: {seconds:.1f} s.")
    return "\n\n".join([*parts, *(f"{name} was skipped: {why}" for name, why in skipped.items())])


def _shares(rows: Sequence[Row], notes: Mapping[str, Any]) -> Iterator[str]:
    for row in rows:
        if row.measure.name == ALL[0].name:
            for name in row.figures:
                stored = notes["stored_bytes"][name] if is_typed(name) else None
                share = bytes_per_token(SIZES[row.size], stored) * row.median(name) / notes["bandwidth_bytes_per_s"]
                yield f"{row.size}, {name}: {100 * share:.0f} %"


def updated(page: str, measured: str, mark: str = "measured") -> str:
    """Replace the text between the comments `mark` and `/mark` of a page; the rest of a page is written by hand."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{measured}\n\n{end}{after}"


def write_json(path: Path, rows: Sequence[Row], notes: Mapping[str, Any]) -> None:
    """Write all values and notes."""
    found = [
        {
            "size": row.size,
            "measure": row.measure.name,
            "unit": row.measure.unit,
            "figures": row.figures,
            "ratios": {name: row.ratio(name) for name in row.figures if REFERENCE in row.figures},
        }
        for row in rows
    ]
    path.write_text(json.dumps({**notes, "rows": found}, indent=1) + "\n")


def read_json(path: Path) -> tuple[list[Row], dict[str, Any]]:
    """Read what `write_json` wrote: the rows and the notes."""
    notes = json.loads(path.read_text())
    measures = {measure.name: measure for measure in ALL}
    rows = [Row(row["size"], measures[row["measure"]], row["figures"]) for row in notes.pop("rows")]
    return rows, notes


def plot(path: Path, rows: Sequence[Row]) -> None:
    """Draw the ratio of every implementation in float32 to transformers, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in float32_rows(rows) if REFERENCE in row.figures][::-1]
    names = [name for name in dict.fromkeys(name for row in rows for name in row.figures) if name != REFERENCE]
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.22 * len(rows) * (1 + len(names))), layout="constrained")
    height = 0.8 / len(names)
    for index, name in enumerate(names):
        positions = [number + 0.4 - (index + 0.5) * height for number, row in enumerate(rows) if name in row.figures]
        ratios = [row.ratio(name) for row in rows if name in row.figures]
        bars = axes.barh(positions, ratios, height, label=name)
        axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), [f"{row.size}: {row.measure.name}" for row in rows])
    axes.set_xlabel("times as good as transformers, in the same run")
    axes.margins(x=0.08)
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
