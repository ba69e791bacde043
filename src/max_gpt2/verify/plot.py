"""A plot of the differences over the places of a model, as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 960, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 12, 40
_SMALLEST, _LARGEST = -10, 4  # powers of ten; what is beyond is drawn at the edge
_MOST_LABELS = 12


@dataclass(frozen=True)
class Point:
    """One place: its name, its two differences, and whether they are within tolerance."""

    name: str
    absolute: float
    relative: float
    equal: bool


def draw(points: Sequence[Point], tolerance: float) -> str:
    """Return the SVG: both differences over the places, on a logarithmic scale, with a line at `tolerance`."""
    values = [value for point in points for value in (point.absolute, point.relative)]
    low, high = _range([*values, tolerance])
    parts = [_grid(low, high), _labels(points), _tolerance(tolerance, low, high)]
    for kind in ("relative", "absolute"):
        spots = [(_x(at, len(points)), _y(getattr(point, kind), low, high)) for at, point in enumerate(points)]
        parts.append(f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in spots)}"/>')
        parts += [_spot(kind, point, x, y) for point, (x, y) in zip(points, spots, strict=True)]
    label = "The difference at each place of the model, in the order of computation"
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _spot(kind: str, point: Point, x: float, y: float) -> str:
    about = f"{escape(point.name)}: {kind} difference {getattr(point, kind):.1e}"
    mark = "" if point.equal else " apart"
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
    """Name the first place, some of the blocks, and the last."""
    blocks = [at for at, point in enumerate(points) if point.name.startswith("h.") and point.name.count(".") == 1]
    step = max(1, math.ceil(len(blocks) / _MOST_LABELS))
    shown = [0, *blocks[step - 1 :: step], len(points) - 1]
    anchors = {0: "start", len(points) - 1: "end"}
    texts = [
        f'<text x="{_x(at, len(points)):.1f}" y="{_HEIGHT - 14}" '
        f'text-anchor="{anchors.get(at, "middle")}">{escape(points[at].name)}</text>'
        for at in shown
    ]
    return "".join(texts)


def _tolerance(value: float, low: int, high: int) -> str:
    y = _y(value, low, high)
    return (
        f'<line class="tolerance" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tolerance" x="{_WIDTH - _RIGHT - 4}" y="{y - 5:.1f}" text-anchor="end">{value:.0e}</text>'
    )
