"""What all figures have in common: two shades, colours that everybody can tell apart, letters to read on a phone."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

#: Inches. A phone shows a figure at its width or less, a desktop at 600 pixels; letters of 10 points are read on both.
WIDTH = 5.0
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Shade:
    """The colours of a page: those of Okabe and Ito, which colour-blind readers tell apart, on light or on dark."""

    name: str
    paper: str
    ink: str
    muted: str
    faint: str
    blue: str
    orange: str
    green: str

    def from_paper(self) -> LinearSegmentedColormap:
        """Return the colours of 0 to 1: nothing is the paper."""
        return LinearSegmentedColormap.from_list("from_paper", [self.paper, self.blue])

    def around_paper(self) -> LinearSegmentedColormap:
        """Return the colours of -1 to 1, with 0 in the middle."""
        return LinearSegmentedColormap.from_list("around_paper", [self.orange, self.paper, self.blue])

    def style(self) -> AbstractContextManager[None]:
        """Return the context in which figures are made and saved; the same numbers give the same bytes."""
        settings: Any = {
            "svg.hashsalt": "max-gpt2",
            "font.family": "DejaVu Sans",  # matplotlib brings it
            "font.size": 10,
            "axes.titlesize": 10.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "legend.frameon": False,
            "image.interpolation": "none",
        }
        inked = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor")
        lines = ("axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
        settings |= dict.fromkeys(inked, self.ink) | dict.fromkeys(lines, self.faint)
        return mpl.rc_context(settings)


SHADES = (
    Shade("light", "#ffffff", "#26292e", "#666b75", "#a9adb5", "#0072b2", "#d55e00", "#009e73"),
    Shade("dark", "#1e2129", "#e2e4e9", "#9aa1b0", "#6b7180", "#56b4e9", "#f0a04b", "#33c299"),
)


def shown(number: float, digits: int) -> str:
    """Return a number with a true minus sign, and no sign before zero."""
    return f"{round(number, digits) + 0.0:.{digits}f}".replace("-", MINUS)


def sheet(height: float) -> Figure:
    """Return an empty figure of so many inches."""
    return Figure(figsize=(WIDTH, height), layout="constrained")
