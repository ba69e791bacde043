"""The style of all figures: light and dark themes, color-blind-safe colors, and text that is readable on a phone."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

#: The width in inches. Desktops show a figure at 600 pixels, phones at their width; 10-point text is readable on both.
WIDTH = 5.0
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Theme:
    """The colors of a light or dark page, based on the color-blind-safe palette of Okabe and Ito."""

    name: str
    paper: str
    ink: str
    muted: str
    faint: str
    blue: str
    orange: str
    green: str

    def from_paper(self) -> LinearSegmentedColormap:
        """Return a color map from 0 (the background) to 1."""
        return LinearSegmentedColormap.from_list("from_paper", [self.paper, self.blue])

    def around_paper(self) -> LinearSegmentedColormap:
        """Return a color map from -1 to 1, with 0 as the background."""
        return LinearSegmentedColormap.from_list("around_paper", [self.orange, self.paper, self.blue])

    def style(self) -> AbstractContextManager[None]:
        """Return a context in which to create and save figures; the same data produces the same bytes."""
        settings: Any = {
            "svg.hashsalt": "max-gpt2",
            "font.family": "DejaVu Sans",  # ships with matplotlib
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


THEMES = (
    Theme("light", "#ffffff", "#26292e", "#666b75", "#a9adb5", "#0072b2", "#d55e00", "#009e73"),
    Theme("dark", "#1e2129", "#e2e4e9", "#9aa1b0", "#6b7180", "#56b4e9", "#f0a04b", "#33c299"),
)


def format_number(number: float, digits: int) -> str:
    """Format a number with a typographic minus sign, and zero without a sign."""
    return f"{round(number, digits) + 0.0:.{digits}f}".replace("-", MINUS)


def new_figure(height: float) -> Figure:
    """Return an empty figure with a height in inches."""
    return Figure(figsize=(WIDTH, height), layout="constrained")
