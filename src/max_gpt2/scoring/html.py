"""Render a score as HTML: its text, with each unit colored by its surprisal."""

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Protocol

from max_gpt2.scoring.options import ScoreOptions

#: The surprisal, in bits, of the strongest color.
_STRONGEST = 16
#: Units beyond this number are shown without a color.
_MOST_UNITS = 5000
# A translucent background keeps the color of the text, so that both are readable on a light and on a dark page.
_COLOR, _OPACITY = "235, 105, 20", 0.65


class Unit(Protocol):
    """The fields of a unit that the page shows."""

    @property
    def start(self) -> int:
        """The first character."""
        ...

    @property
    def end(self) -> int:
        """The character after the last one."""
        ...

    @property
    def surprisal(self) -> float:
        """The surprisal, in the base of the options."""
        ...

    @property
    def rank(self) -> int | None:
        """The rank of the first token."""
        ...

    @property
    def entropy(self) -> float | None:
        """The entropy of the distribution of the first token."""
        ...

    @property
    def context(self) -> int:
        """The number of ids that the first token was conditioned on."""
        ...


def render(text: str, units: Sequence[Unit], options: ScoreOptions) -> str:
    """Return one `div` without scripts or external files; the text is escaped, and its line breaks are kept."""
    body = "".join(_pieces(text, units, options))
    return (
        '<div style="max-width: 60em; overflow-wrap: anywhere">'
        f'<div style="white-space: pre-wrap; line-height: 1.8">{body}</div>'
        f'<div style="font-size: 85%; opacity: 0.8; margin-top: 0.5em">{_legend(options)}</div></div>'
    )


def _pieces(text: str, units: Sequence[Unit], options: ScoreOptions) -> Iterator[str]:
    """Yield a span for each group of units that share characters, and the text between them."""
    at = 0
    for group in _groups(units[:_MOST_UNITS]):
        start, end = group[0].start, max(unit.end for unit in group)
        surprisals = [unit.surprisal for unit in group if not math.isnan(unit.surprisal)]
        yield escape(text[at:start])
        title = escape("\n".join(_title(unit, options) for unit in group))
        yield f'<span title="{title}" style="{_style(surprisals, options)}">{escape(text[start:end])}</span>'
        at = end
    yield escape(text[at:])


def _groups(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    """Group units that overlap: tokens that are parts of one character."""
    group: list[Unit] = []
    for unit in units:
        if group and unit.start >= max(one.end for one in group):
            yield group
            group = []
        group.append(unit)
    if group:
        yield group


def _title(unit: Unit, options: ScoreOptions) -> str:
    if math.isnan(unit.surprisal):
        return "no probability: the first token without BOS"
    parts = [f"surprisal {unit.surprisal:.3f} {options.unit_of_information}"]
    parts += [f"rank {unit.rank}"] if unit.rank is not None else []
    parts += [f"entropy {unit.entropy:.3f} {options.unit_of_information}"] if unit.entropy is not None else []
    return ", ".join([*parts, f"context {unit.context}"])


def _style(surprisals: Sequence[float], options: ScoreOptions) -> str:
    if not surprisals:
        return "border-bottom: 1px dotted"
    bits = sum(surprisals) * options.log_of_base / math.log(2)
    return f"background: rgba({_COLOR}, {_OPACITY * min(max(bits / _STRONGEST, 0), 1):.3f}); border-radius: 3px"


def _legend(options: ScoreOptions) -> str:
    most = _STRONGEST * math.log(2) / options.log_of_base
    bar = (
        f"background: linear-gradient(to right, rgba({_COLOR}, 0), rgba({_COLOR}, {_OPACITY})); display: inline-block; "
        "width: 8em; height: 0.8em; border-radius: 3px; vertical-align: middle"
    )
    unit = options.unit_of_information
    return f'surprisal of each {options.unit}: 0 <span style="{bar}"></span> {most:.3g} {unit} and more'
