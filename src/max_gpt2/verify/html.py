"""Render a verification report as one self-contained HTML page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from max_gpt2.verify.compare import ABSOLUTE, RELATIVE

_WIDTH, _HEIGHT = 960, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 12, 40
_SMALLEST, _LARGEST = -10, 4  # powers of ten; values outside are clamped to the edge
_MOST_LABELS = 12


@dataclass(frozen=True)
class Point:
    """A probe in the plot: its name, its differences, and whether they are within tolerance."""

    name: str
    absolute: float
    relative: float
    equal: bool


def draw(points: Sequence[Point], tolerance: float) -> str:
    """Return an SVG of both differences per probe, on a logarithmic scale, with a line at `tolerance`."""
    values = [value for point in points for value in (point.absolute, point.relative)]
    low, high = _range([*values, tolerance])
    parts = [_grid(low, high), _labels(points), _tolerance(tolerance, low, high)]
    for kind in ("relative", "absolute"):
        spots = [(_x(at, len(points)), _y(getattr(point, kind), low, high)) for at, point in enumerate(points)]
        parts.append(f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in spots)}"/>')
        parts += [_spot(kind, point, x, y) for point, (x, y) in zip(points, spots, strict=True)]
    label = "The difference at each probe, in the order of computation"
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _spot(kind: str, point: Point, x: float, y: float) -> str:
    about = f"{escape(point.name)}: {kind} difference {getattr(point, kind):.1e}"
    mark = "" if point.equal else " diverged"
    return f'<circle class="{kind}{mark}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{about}</title></circle>'


def _range(values: Sequence[float]) -> tuple[int, int]:
    powers = [math.log10(value) for value in values if 0 < value < math.inf]
    low = max(_SMALLEST, math.floor(min(powers)) - 1)
    return low, max(low + 2, min(_LARGEST, math.ceil(max(powers)) + 1))


def _x(at: int, count: int) -> float:
    return _LEFT + 8 + (_WIDTH - _LEFT - _RIGHT - 16) * at / max(1, count - 1)


def _y(value: float, low: int, high: int) -> float:
    power = high if value == math.inf else max(low, min(high, math.log10(value))) if value > 0 else low
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - power) / (high - low)


def _grid(low: int, high: int) -> str:
    lines = []
    for power in range(low, high + 1):
        y = _y(10.0**power, low, high)
        name = "0" if power == low else f"1e{power}"
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{name}</text>')
    return "".join(lines)


def _labels(points: Sequence[Point]) -> str:
    """Label the first probe, some of the blocks, and the last probe."""
    blocks = [at for at, point in enumerate(points) if point.name.startswith("h.") and point.name.count(".") == 1]
    step = max(1, math.ceil(len(blocks) / _MOST_LABELS))
    shown = [0, *blocks[step - 1 :: step], len(points) - 1]
    anchors = {0: "start", len(points) - 1: "end"}
    labels = [
        f'<text x="{_x(at, len(points)):.1f}" y="{_HEIGHT - 14}" '
        f'text-anchor="{anchors.get(at, "middle")}">{escape(points[at].name)}</text>'
        for at in shown
    ]
    return "".join(labels)


def _tolerance(value: float, low: int, high: int) -> str:
    y = _y(value, low, high)
    return (
        f'<line class="tolerance" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tolerance" x="{_WIDTH - _RIGHT - 4}" y="{y - 5:.1f}" text-anchor="end">{value:.0e}</text>'
    )


_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #5c6578; --line: #d9dee8; --page: #fbfcfe; --card: #fff;
  --good: #176f3d; --bad: #b3261e; --first: #2a5db0; --second: #b06a12; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9f0; --soft: #a0a9ba; --line: #343c4b; --page: #14181f;
  --card: #1b212b; --good: #62c98c; --bad: #ff8a80; --first: #8ab4f8; --second: #f0b45b; } }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; } .soft { color: var(--soft); }
.verdict { font-size: 1.15rem; font-weight: 600; } .good { color: var(--good); } .bad { color: var(--bad); }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-weight: 500; } th:first-child, td:first-child { text-align: left; }
svg { display: block; width: 100%; min-width: 42rem; font: 11px system-ui, sans-serif; }
svg text { fill: var(--soft); } svg .grid { stroke: var(--line); } svg polyline { fill: none; stroke-width: 1.5; }
svg .tolerance { stroke: var(--bad); stroke-dasharray: 5 4; } svg text.tolerance { stroke: none; fill: var(--bad); }
polyline.absolute { stroke: var(--first); } polyline.relative { stroke: var(--second); }
circle.absolute, .key.absolute { fill: var(--first); color: var(--first); }
circle.relative, .key.relative { fill: var(--second); color: var(--second); } circle.diverged { fill: var(--bad); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: .75rem; margin-top: .5rem; }
.pair > div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem; }
.written { white-space: pre-wrap; }
"""
_SHOWN = 400  # characters of a prompt


def render(report: dict[str, Any]) -> str:
    """Return the page for the dictionary of `Report.to_json`: verdict, plot, tables, and both continuations."""
    ours, theirs = (escape(name) for name in report["implementations"])
    title = f"{escape(report['model'])}: {ours} and {theirs}"
    points = [
        Point(probe["probe"], probe["max_abs_diff"], probe["max_rel_diff"], probe["passed"])
        for probe in report["probes"]
    ]
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            f"<h1>{title}</h1>",
            *_verdict(report),
            *([f"<p>{escape(report['tokenizer']['summary'])}</p>"] if report["tokenizer"] else []),
            "<h2>Difference by layer</h2>",
            f'<div class="wide">{draw(points, ABSOLUTE)}</div>',
            '<p class="soft"><span class="key absolute">●</span> largest absolute difference '
            '<span class="key relative">●</span> relative to the largest value. Equal means an absolute '
            f"difference below {ABSOLUTE:.0e}, or a relative one below {RELATIVE:.0e}.</p>",
            "<h2>Logits by prompt</h2>",
            _prompts(report["prompts"]),
            "<h2>Greedy continuations</h2>",
            *(_continuations(prompt, (ours, theirs)) for prompt in report["prompts"]),
            "<h2>Hidden states (worst prompt for each)</h2>",
            _probes(report["probes"]),
            "</body>\n</html>\n",
        ]
    )


def _verdict(report: dict[str, Any]) -> list[str]:
    ours, theirs = (escape(name) for name in report["implementations"])
    largest = f"Their logits differ by at most {_number(report['max_abs_diff'])} ({escape(report['criterion'])})."
    lines = [
        f'<p class="verdict good">{ours} and {theirs} are equal.</p>'
        if report["passed"]
        else f'<p class="verdict bad">{ours} and {theirs} are NOT equal.</p>',
        f"<p>{largest} They have the same argmax at {report['argmax_agreement']:.2%} of the positions.</p>",
    ]
    if first := report["first_divergence"]:
        lines.append(
            f'<p>First divergence: <strong class="bad">{escape(first["probe"])}</strong>, by '
            f"{_number(first['max_abs_diff'])}, on the prompt “{escape(first['prompt'])}”.</p>"
        )
    return [*lines, f'<p class="soft">{theirs}: {escape(report["reference"])}.</p>']


def _probes(probes: Sequence[dict[str, Any]]) -> str:
    rows = [
        [
            probe["probe"],
            _number(probe["max_abs_diff"]),
            _number(probe["max_rel_diff"]),
            f"{probe['largest']:.4g}",
            probe["prompt"],
            _word(probe["passed"]),
        ]
        for probe in probes
    ]
    return _table(["probe", "largest difference", "relative", "largest value", "prompt", ""], rows)


def _prompts(prompts: Sequence[dict[str, Any]]) -> str:
    rows = [
        [
            prompt["name"],
            str(prompt["tokens"]),
            _number(prompt["max_abs_diff"]),
            _number(prompt["max_rel_diff"]),
            f"{prompt['argmax_agreement']:.1%}",
            _word(prompt["passed"]),
        ]
        for prompt in prompts
    ]
    return _table(["prompt", "tokens", "largest difference", "relative", "same argmax", ""], rows)


def _continuations(prompt: dict[str, Any], names: tuple[str, str]) -> str:
    shown = prompt["text"][:_SHOWN] + ("…" if len(prompt["text"]) > _SHOWN else "")
    name = f"<strong>{escape(prompt['name'])}</strong>"
    if not prompt["greedy_tokens"]:
        return f'<p>{name}: <span class="soft">the prompt fills the context, so there is no continuation.</span></p>'
    cells = [
        f'<div><div class="soft">{implementation}</div><div class="written">{escape(text)}</div></div>'
        for implementation, text in zip(names, prompt["continuations"], strict=True)
    ]
    return (
        f"<p>{name} ({_word(prompt['greedy_match'], 'the same', 'not the same')}): "
        f'<span class="soft written">{escape(shown)}</span></p><div class="pair">{"".join(cells)}</div>'
    )


def _table(names: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in names)
    # The last column contains HTML that this module generated; every other cell is escaped.
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row[:-1])}<td>{row[-1]}</td></tr>" for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _word(good: bool, yes: str = "equal", no: str = "NOT equal") -> str:
    return f'<span class="{"good" if good else "bad"}">{yes if good else no}</span>'


def _number(value: float) -> str:
    return f"{value:.1e}" if math.isfinite(value) else "infinite"
