"""What was measured, as a table, as JSON and as a plot."""

import datetime
import json
import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.bandwidth import bytes_a_token
from bench.measures import MEASURES, Measure
from max_gpt2.config import SIZES

_BEGIN, _END = "<!-- measured -->", "<!-- /measured -->"
REFERENCE = "transformers"
OURS = "max-gpt2"


@dataclass
class Row:
    """A measure of a size: all figures of each side, in the order in which they were taken."""

    size: str
    measure: Measure
    figures: dict[str, list[float]] = field(default_factory=dict)

    def median(self, side: str) -> float:
        """Return the median of a side."""
        return statistics.median(self.figures[side])

    def ratio(self, side: str) -> float:
        """Return how many times better than transformers a side is."""
        return self.measure.ratio(self.median(side), self.median(REFERENCE))

    def line(self, sides: Sequence[str]) -> str:
        """Return the row of the table."""
        cells = [f"{self.size}: {self.measure.name}"]
        for side in sides:
            if side not in self.figures:
                cells.append("")
            elif side == REFERENCE or REFERENCE not in self.figures:
                cells.append(self.measure.text(self.median(side)))
            else:
                cells.append(f"{self.measure.text(self.median(side))} ({self.ratio(side):.2f})")
        return f"| {' | '.join(cells)} |"


def table(rows: Sequence[Row]) -> str:
    """Return the table in Markdown: a column for each side, behind each figure its ratio to transformers."""
    sides = list(dict.fromkeys(side for row in rows for side in row.figures))
    head = [f"| | {' | '.join(sides)} |", f"|{'---|' * (1 + len(sides))}"]
    return "\n".join([*head, *(row.line(sides) for row in rows)])


def machine() -> str:
    """Return the date and what it was measured on."""
    date = datetime.datetime.now(tz=datetime.UTC).date()
    cores = f"{os.cpu_count()} cores of {_processor()}"
    return f"{date}: {cores}, Python {platform.python_version()}, MAX 26.7.0, PyTorch 2.13.0"


def figures(rows: Sequence[Row], notes: Mapping[str, float], skipped: Mapping[str, str]) -> str:
    """Return the table, and what there is to say about it: `notes` as in the JSON, `skipped` says why of each side."""
    rate = notes["bandwidth_bytes_per_s"]
    parts = [
        table(rows),
        f"Measured on {machine()}; medians of {notes['runs']:.0f}.",
        f"Two threads of PyTorch summed numbers at {rate / 1e9:.1f} GB/s. Of that, with each weight read once a token,",
        "\n".join(f"- {one}" for one in _shares(rows, rate)),
    ]
    if "first_compile_s" in notes:
        seconds = notes["first_compile_s"]
        parts.append(f"With an empty compile cache, the first token of {OURS} came after {seconds:.1f} s.")
    return "\n\n".join([*parts, *(f"{name} was left out: {why}" for name, why in skipped.items())])


def _shares(rows: Sequence[Row], rate: float) -> Iterator[str]:
    for row in rows:
        if row.measure.name == MEASURES[0].name:
            for side in row.figures:
                share = bytes_a_token(SIZES[row.size]) * row.median(side) / rate
                yield f"{side} writes {row.size} (batch 1) with {100 * share:.0f} %"


def updated(page: str, measured: str) -> str:
    """Put what was measured between the marks of a page; the text around them is written by people."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n\n{measured}\n\n{_END}{after}"


def write_json(path: Path, rows: Sequence[Row], notes: Mapping[str, float]) -> None:
    """Write every figure."""
    found = [
        {
            "size": row.size,
            "measure": row.measure.name,
            "unit": row.measure.unit,
            "figures": row.figures,
            "ratios": {side: row.ratio(side) for side in row.figures if REFERENCE in row.figures},
        }
        for row in rows
    ]
    path.write_text(json.dumps({"measured": machine(), **notes, "rows": found}, indent=1) + "\n")


def plot(path: Path, rows: Sequence[Row]) -> None:
    """Draw how many times faster than transformers each side is, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in rows if REFERENCE in row.figures][::-1]
    sides = [side for side in dict.fromkeys(side for row in rows for side in row.figures) if side != REFERENCE]
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.22 * len(rows) * (1 + len(sides))), layout="constrained")
    height = 0.8 / len(sides)
    for at, side in enumerate(sides):
        places = [number + 0.4 - (at + 0.5) * height for number, row in enumerate(rows) if side in row.figures]
        ratios = [row.ratio(side) for row in rows if side in row.figures]
        bars = axes.barh(places, ratios, height, label=side)
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
