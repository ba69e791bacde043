"""Who may look at whom, and who does."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from max.driver import CPU
from max.dtype import DType
from max.experimental.tensor import default_device, default_dtype

from solutions import solution_02
from tools.figures.demo import SENTENCE, inside, tokens
from tools.figures.shade import MINUS, Shade, sheet

#: Layer and head, and what can be seen of each.
HEADS = {
    (0, 0): "to all, evenly",
    (4, 2): "to the words just before",
    (2, 6): "to the comma, once it is there",
    (5, 3): "to “Elizabeth”, then to “she”",
}
WORDS = "It was a pleasure to be"


def mask(seq: int) -> np.ndarray:
    """Return the mask of step 2: [seq, seq]."""
    with default_device(CPU()), default_dtype(DType.float32):
        return np.from_dlpack(solution_02.causal_mask(seq))


def causal_mask(shade: Shade) -> Figure:
    """Draw the mask of step 2 over a text."""
    words = tokens(WORDS)
    allowed = np.isfinite(mask(len(words)))
    figure = sheet(4.1)
    axes = figure.add_subplot()
    axes.imshow(np.where(allowed, 0.85, 0.0), cmap=shade.from_paper(), vmin=0, vmax=1)
    for row, column in np.ndindex(allowed.shape):
        text, colour = ("0", shade.paper) if allowed[row, column] else (f"{MINUS}∞", shade.muted)
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=11)
    _grid(axes, words)
    axes.set_xlabel("key: the token that is looked at")
    axes.set_ylabel("query: the token that looks")
    axes.xaxis.set_label_position("top")
    axes.xaxis.tick_top()
    return figure


def heads(shade: Shade) -> Figure:
    """Draw what four heads of the demo look at, in one sentence."""
    words = tokens(SENTENCE)
    figure = sheet(5.6)
    for place, ((layer, head), title) in enumerate(HEADS.items()):
        axes = figure.add_subplot(2, 2, place + 1)
        axes.imshow(inside().attention[layer, head], cmap=shade.from_paper(), vmin=0, vmax=0.7)
        axes.set_title(f"layer {layer}, head {head}\n{title}", fontsize=9.5)
        _grid(axes, words)
        axes.tick_params(axis="x", rotation=90)
        axes.tick_params(labelsize=9.5, labelleft=place % 2 == 0, labelbottom=place >= 2)
    return figure


def _grid(axes: Axes, words: list[str]) -> None:
    axes.set_xticks(range(len(words)), words)
    axes.set_yticks(range(len(words)), words)
    axes.set_xticks(np.arange(len(words) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(words) + 1) - 0.5, minor=True)
    axes.grid(which="minor", linewidth=0.4, alpha=0.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
