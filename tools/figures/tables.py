"""The table of positions as an image."""

import numpy as np
from matplotlib.figure import Figure

from tools.figures.demo import weight
from tools.figures.shade import Shade, sheet

COLUMNS = 64


def alike(table: np.ndarray) -> np.ndarray:
    """Return the cosine of the angle between every two rows."""
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    return unit @ unit.T


def embeddings(shade: Shade) -> Figure:
    """Draw the first columns of wpe, and how alike its rows are."""
    table = weight("transformer.wpe.weight")
    figure = sheet(4.2)
    left, right = figure.subplots(1, 2, width_ratios=(1, 2.6))
    left.imshow(table[:, :COLUMNS], cmap=shade.around_paper(), vmin=-0.06, vmax=0.06, aspect="auto")
    left.set_title("wpe", fontsize=9.5)
    left.set_xlabel(f"elements 0-{COLUMNS - 1}")
    left.set_xticks([])
    left.set_ylabel("position")
    # Every second position is enough to see it, and a quarter of the bytes.
    shown = right.imshow(
        alike(table[::2]), cmap=shade.around_paper(), vmin=-1, vmax=1, extent=(-0.5, 255.5, 255.5, -0.5)
    )
    right.set_title("how alike two positions are", fontsize=9.5)
    right.set_xlabel("position")
    bar = figure.colorbar(shown, ax=right, ticks=[-1, 0, 1], location="bottom", shrink=0.9, aspect=30)
    bar.ax.set_xticklabels(["opposite", "unlike", "alike"])
    for axes in (left, right):
        axes.set_yticks([0, 64, 128, 192, 255])
    right.set_xticks([0, 64, 128, 192, 255])
    return figure
