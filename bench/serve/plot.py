"""Plot of latency over request rate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

KINDS = {"first": "time to the first token", "between": "time between tokens"}


def plot(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Draw the median and the 99th percentile over the request rate, one color per server."""
    figure, axes = plt.subplots(1, len(KINDS), figsize=(9, 3.5))
    for axis, (kind, title) in zip(axes, KINDS.items(), strict=True):
        rates = sorted({row["rate"] for row in rows})
        for name in dict.fromkeys(row["implementation"] for row in rows):
            selected = sorted((row for row in rows if row["implementation"] == name), key=lambda row: row["rate"])
            (line,) = axis.plot(rates, [row[f"{kind}_p50_ms"] for row in selected], marker="o", label=f"{name}, median")
            tail = [row[f"{kind}_p99_ms"] for row in selected]
            axis.plot(rates, tail, marker="o", linestyle=":", color=line.get_color(), label=f"{name}, p99")
        axis.set(title=title, xlabel="requests per second", ylabel="ms", xscale="log", ylim=(0, None))
        axis.set_xticks(rates, [f"{rate:g}" for rate in rates], minor=False)
        axis.minorticks_off()
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
