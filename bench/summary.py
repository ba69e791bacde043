"""The tables and the chart of docs/performance.md: max-gpt2 beside transformers and beside the best peer.

`python -m bench.summary` rebuilds them from performance.json, peers.json and scoring.json in docs/log.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.measures import MEASURES, MEMORY_RATIO
from bench.page import LLAMA_CPP, OURS, PRODUCTS, REFERENCE, Row, is_typed, plot, read_json, typed, updated

DOCS = Path(__file__).parent.parent / "docs"
LOG = DOCS / "log"
#: The measures of stored types that the page shows.
_STORED = (MEASURES[0].name, MEMORY_RATIO.name)
_MEASURED = re.compile(r"(?P<date>[\d-]+): (?P<hardware>[^,]+), (?P<versions>.+)")


def summary(
    rows: Sequence[Row], notes: Mapping[str, Any], peer_rows: Sequence[Row], peer_notes: Mapping[str, Any]
) -> str:
    """Return the Markdown table: ratios to transformers from one run, ratios to the best peer from another."""
    runs = [_MEASURED.fullmatch(one["measured"]) for one in (notes, peer_notes)]
    assert all(runs), "notes without the machine"
    lines = ["| | max-gpt2 | ratio to transformers | ratio to the best peer |", "|---|---|---|---|"]
    for part in ("date", "hardware", "versions"):
        first, second = (run[part] for run in runs if run)
        lines.append(
            f"| {part} | {first} | same run | {'same' if part == 'versions' and first == second else second} |"
        )
    best = {(row.size, row.measure.name): _best_peer(row) for row in peer_rows}
    for row in rows:
        if row.size != "gpt2":  # the log has the larger sizes
            continue
        peer = best.get((row.size, row.measure.name), "")
        value = row.measure.text(row.median(OURS))
        lines.append(f"| {row.measure.name} | {value} | {row.ratio(OURS):.2f} | {peer} |")
    return "\n".join(lines)


def stored_summary(rows: Sequence[Row]) -> str:
    """Return the Markdown table of stored types: max-gpt2, and in brackets its ratio to llama.cpp with the same type.

    Other types than F32 have the speed relative to F32. The log has the other measures. Empty if no stored types were
    measured.
    """
    names = [name for name in rows[0].figures if is_typed(name) and name.startswith(OURS)]
    if not names:
        return ""
    types = [name.rpartition(" ")[2] for name in names]
    lines = [f"| | F32 | {' | '.join(types)} |", f"|---|---|{'---|' * len(types)}"]
    for row in rows:
        if row.measure.name not in _STORED:
            continue
        cells = []
        for name, peer in zip([OURS, *names], [LLAMA_CPP, *(typed(LLAMA_CPP, type_) for type_ in types)], strict=True):
            value = _stored_value(row, name)
            cells.append(f"{value} ({row.ratio(name, peer):.2f})" if peer in row.figures else value)
        lines.append(f"| {row.measure.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _stored_value(row: Row, name: str) -> str:
    if row.measure.name == MEMORY_RATIO.name:
        return f"{row.median(name):.2f}"
    if name == OURS:
        return row.measure.text(row.median(name))
    return f"{row.ratio(name, OURS):.2f}"


def scoring_summary(rows: Sequence[Row], notes: Mapping[str, Any]) -> str:
    """Return the Markdown table of scoring: tokens/s, ratios, and the time in units of the matrix products alone."""
    names = [name for name in rows[0].figures if name not in (OURS, PRODUCTS)]
    ratios_to = " | ".join(f"ratio to {name}" for name in names)
    lines = [
        f"| tokens a text | {OURS} | {ratios_to} | time, of the matrix products alone |",
        f"|---|---|{'---|' * len(names)}---|",
    ]
    for row in rows:
        length = row.measure.name.removeprefix("scoring, ").removesuffix(" tokens a text")
        ratios = [f"{row.ratio(OURS, name):.2f}" for name in names]
        cells = [length, row.measure.text(row.median(OURS)), *ratios, f"{row.ratio(PRODUCTS, OURS):.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Measured on {notes['measured']}."])


def _best_peer(row: Row) -> str:
    """Return the ratio of max-gpt2 to the best other implementation, with its name; empty if there is none."""
    peers = [name for name in row.figures if name not in (OURS, REFERENCE) and not is_typed(name)]
    if not peers:
        return ""
    best = max(peers, key=lambda name: row.ratio(name, OURS))
    return f"{row.ratio(OURS, best):.2f} ({best})"


def main() -> None:
    """Update the tables and the chart."""
    rows, notes = read_json(LOG / "performance.json")
    peer_rows, peer_notes = read_json(LOG / "peers.json")
    page = DOCS / "performance.md"
    text = updated(page.read_text(), summary(rows, notes, peer_rows, peer_notes))
    if stored := stored_summary(peer_rows):
        text = updated(text, stored, "stored")
    page.write_text(updated(text, scoring_summary(*read_json(LOG / "scoring.json")), "scoring"))
    plot(DOCS / "performance.png", rows)


if __name__ == "__main__":
    main()
