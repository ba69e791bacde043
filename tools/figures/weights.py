"""Figures of weights: a weight as Conv1D and as Linear, and the position embeddings."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tools.figures.model import weight
from tools.figures.style import Theme, format_number, new_figure

WEIGHT = "transformer.h.0.attn.c_attn.weight"
IN, OUT = 3, 5
#: The index of the element to frame in both layouts.
FRAMED = (1, 3)
#: The number of columns of wpe to draw.
COLUMNS = 64


def layout(theme: Theme) -> Figure:
    """Draw a corner of a weight as stored by Conv1D and by Linear."""
    corner = weight(WEIGHT)[:IN, :OUT]
    figure = new_figure(5.2)
    upper, lower = figure.subplots(2, 1, height_ratios=(IN, OUT))
    _table(upper, corner, FRAMED, theme)
    upper.set_title("Conv1D, in the file: [in, out]")
    _label_axes(upper, "out", "in")
    _table(lower, corner.T, FRAMED[::-1], theme)
    lower.set_title("Linear, in MAX and PyTorch: [out, in]")
    _label_axes(lower, "in", "out")
    return figure


def _table(axes: Axes, corner: np.ndarray, framed: tuple[int, int], theme: Theme) -> None:
    largest = float(np.abs(corner).max())
    axes.imshow(corner, cmap=theme.around_paper(), vmin=-1.6 * largest, vmax=1.6 * largest, aspect=0.55)
    for row, column in np.ndindex(corner.shape):
        axes.text(column, row, format_number(float(corner[row, column]), 3), ha="center", va="center", color=theme.ink)
    row, column = framed
    edges = ([column - 0.5, column + 0.5, column + 0.5, column - 0.5, column - 0.5],
             [row - 0.5, row - 0.5, row + 0.5, row + 0.5, row - 0.5])  # fmt: skip
    axes.plot(*edges, color=theme.ink, linewidth=2.5, clip_on=False)


def _label_axes(axes: Axes, across: str, down: str) -> None:
    columns, rows = (int(axes.get_xlim()[1] + 0.5), int(axes.get_ylim()[0] + 0.5))
    axes.set_xticks(range(columns), [f"{across} {index}" for index in range(columns)])
    axes.set_yticks(range(rows), [f"{down} {index}" for index in range(rows)])
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)


def cosine_similarity(table: np.ndarray) -> np.ndarray:
    """Return the cosine similarity of every two rows: [rows, width] -> [rows, rows]."""
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    return unit @ unit.T


def embeddings(theme: Theme) -> Figure:
    """Draw the first columns of wpe, and the similarity of its rows."""
    table = weight("transformer.wpe.weight")
    figure = new_figure(4.2)
    left, right = figure.subplots(1, 2, width_ratios=(1, 2.6))
    left.imshow(table[:, :COLUMNS], cmap=theme.around_paper(), vmin=-0.06, vmax=0.06, aspect="auto")
    left.set_title("wpe", fontsize=9.5)
    left.set_xlabel(f"elements 0-{COLUMNS - 1}")
    left.set_xticks([])
    left.set_ylabel("position")
    # Every second position shows the pattern with a quarter of the bytes.
    image = right.imshow(
        cosine_similarity(table[::2]), cmap=theme.around_paper(), vmin=-1, vmax=1, extent=(-0.5, 255.5, 255.5, -0.5)
    )
    right.set_title("similarity of two positions", fontsize=9.5)
    right.set_xlabel("position")
    bar = figure.colorbar(image, ax=right, ticks=[-1, 0, 1], location="bottom", shrink=0.9, aspect=30)
    bar.ax.set_xticklabels(["opposite", "unlike", "alike"])
    for axes in (left, right):
        axes.set_yticks([0, 64, 128, 192, 255])
    right.set_xticks([0, 64, 128, 192, 255])
    return figure
