"""How the waiting grows with the load, as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

KINDS = {"first": "time to the first token", "between": "time between tokens"}


def plot(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Draw median and 99th percentile over the requests that come in a second, a line for each server."""
    figure, axes = plt.subplots(1, len(KINDS), figsize=(9, 3.5))
    for axis, (kind, title) in zip(axes, KINDS.items(), strict=True):
        rates = sorted({row["rate"] for row in rows})
        for side in dict.fromkeys(row["side"] for row in rows):
            ours = sorted((row for row in rows if row["side"] == side), key=lambda row: row["rate"])
            (line,) = axis.plot(rates, [row[f"{kind}_p50_ms"] for row in ours], marker="o", label=f"{side}, median")
            tail = [row[f"{kind}_p99_ms"] for row in ours]
            axis.plot(rates, tail, marker="o", linestyle=":", color=line.get_color(), label=f"{side}, 99 %")
        axis.set(title=title, xlabel="requests per second", ylabel="ms", xscale="log", ylim=(0, None))
        axis.set_xticks(rates, [f"{rate:g}" for rate in rates], minor=False)
        axis.minorticks_off()
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
