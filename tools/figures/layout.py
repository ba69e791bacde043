"""One weight in two layouts: Conv1D's and Linear's."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tools.figures.demo import weight
from tools.figures.shade import Shade, sheet, shown

WEIGHT = "transformer.h.0.attn.c_attn.weight"
IN, OUT = 3, 5
#: An element of the corner that is shown, followed with a frame.
FOLLOWED = (1, 3)


def layout(shade: Shade) -> Figure:
    """Draw a corner of a real weight as the file has it, and as Linear wants it."""
    corner = weight(WEIGHT)[:IN, :OUT]
    figure = sheet(5.2)
    upper, lower = figure.subplots(2, 1, height_ratios=(IN, OUT))
    _table(upper, corner, FOLLOWED, shade)
    upper.set_title("Conv1D, in the file: [in, out]")
    _named(upper, "out", "in")
    _table(lower, corner.T, FOLLOWED[::-1], shade)
    lower.set_title("Linear, in MAX and PyTorch: [out, in]")
    _named(lower, "in", "out")
    return figure


def _table(axes: Axes, corner: np.ndarray, followed: tuple[int, int], shade: Shade) -> None:
    largest = float(np.abs(corner).max())
    axes.imshow(corner, cmap=shade.around_paper(), vmin=-1.6 * largest, vmax=1.6 * largest, aspect=0.55)
    for row, column in np.ndindex(corner.shape):
        axes.text(column, row, shown(float(corner[row, column]), 3), ha="center", va="center", color=shade.ink)
    row, column = followed
    edges = ([column - 0.5, column + 0.5, column + 0.5, column - 0.5, column - 0.5],
             [row - 0.5, row - 0.5, row + 0.5, row + 0.5, row - 0.5])  # fmt: skip
    axes.plot(*edges, color=shade.ink, linewidth=2.5, clip_on=False)


def _named(axes: Axes, across: str, down: str) -> None:
    columns, rows = (int(axes.get_xlim()[1] + 0.5), int(axes.get_ylim()[0] + 0.5))
    axes.set_xticks(range(columns), [f"{across} {one}" for one in range(columns)])
    axes.set_yticks(range(rows), [f"{down} {one}" for one in range(rows)])
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)
