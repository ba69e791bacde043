"""Figures of attention: the causal mask, and the weights of four heads."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from max.driver import CPU
from max.dtype import DType
from max.experimental.tensor import default_device, default_dtype

from solutions import solution_02
from tools.figures.model import SENTENCE, activations, tokens
from tools.figures.style import MINUS, Theme, new_figure

#: The heads to draw, as (layer, head), with their titles.
HEADS = {
    (0, 0): "evenly to all tokens",
    (4, 2): "to the words just before",
    (2, 6): "to the comma, if there is one",
    (5, 3): "to “Elizabeth”, then to “she”",
}
WORDS = "It was a pleasure to be"


def mask(seq: int) -> np.ndarray:
    """Return the mask of step 2 as an array: [seq, seq]."""
    with default_device(CPU()), default_dtype(DType.float32):
        return np.from_dlpack(solution_02.causal_mask(seq))


def causal_mask(theme: Theme) -> Figure:
    """Draw the mask of step 2 for a sequence of words."""
    words = tokens(WORDS)
    allowed = np.isfinite(mask(len(words)))
    figure = new_figure(4.1)
    axes = figure.add_subplot()
    axes.imshow(np.where(allowed, 0.85, 0.0), cmap=theme.from_paper(), vmin=0, vmax=1)
    for row, column in np.ndindex(allowed.shape):
        text, color = ("0", theme.paper) if allowed[row, column] else (f"{MINUS}∞", theme.muted)
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=11)
    _grid(axes, words)
    axes.set_xlabel("key")
    axes.set_ylabel("query")
    axes.xaxis.set_label_position("top")
    axes.xaxis.tick_top()
    return figure


def heads(theme: Theme) -> Figure:
    """Draw the attention weights of four heads of the demo for one sentence."""
    words = tokens(SENTENCE)
    figure = new_figure(5.6)
    for index, ((layer, head), title) in enumerate(HEADS.items()):
        axes = figure.add_subplot(2, 2, index + 1)
        axes.imshow(activations().attention[layer, head], cmap=theme.from_paper(), vmin=0, vmax=0.7)
        axes.set_title(f"layer {layer}, head {head}\n{title}", fontsize=9.5)
        _grid(axes, words)
        axes.tick_params(axis="x", rotation=90)
        axes.tick_params(labelsize=9.5, labelleft=index % 2 == 0, labelbottom=index >= 2)
    return figure


def _grid(axes: Axes, words: list[str]) -> None:
    axes.set_xticks(range(len(words)), words)
    axes.set_yticks(range(len(words)), words)
    axes.set_xticks(np.arange(len(words) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(words) + 1) - 0.5, minor=True)
    axes.grid(which="minor", linewidth=0.4, alpha=0.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
