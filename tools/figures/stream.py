"""Figures of the residual stream: its growth over the blocks, and the effect of a normalization."""

import numpy as np
from matplotlib.figure import Figure

from tools.figures.model import SENTENCE, activations, tokens
from tools.figures.style import Theme, format_number, new_figure

LAYERS = 6
#: The token to show, and the norm that reads its vector.
TOKEN, NORM = 4, "h.2.ln_2"


def mean_norm(x: np.ndarray) -> float:
    """Return the mean norm of the vectors: [seq, n_embd] -> scalar."""
    return float(np.linalg.norm(x, axis=-1).mean())


def stream() -> list[np.ndarray]:
    """Return the stream before the first block and after each block: 7 arrays of [seq, n_embd]."""
    outputs = activations().outputs
    return [outputs["wte"] + outputs["wpe"], *(outputs[f"h.{layer}"] for layer in range(LAYERS))]


def residual_stream(theme: Theme) -> Figure:
    """Draw the mean norm of the stream, and of the vectors that each layer adds to it."""
    outputs, positions = activations().outputs, np.arange(1, LAYERS + 1)
    figure = new_figure(3.6)
    axes = figure.add_subplot()
    for part, color, shift in (("attn", theme.orange, -0.17), ("mlp", theme.green, 0.17)):
        added = [mean_norm(outputs[f"h.{layer}.{part}"]) for layer in range(LAYERS)]
        label = "added by attention" if part == "attn" else "added by the MLP"
        axes.bar(positions + shift, added, width=0.32, color=color, label=label)
    axes.plot(
        range(LAYERS + 1),
        [mean_norm(x) for x in stream()],
        "o-",
        color=theme.blue,
        linewidth=2,
        label="the residual stream",
    )
    axes.set_xticks(range(LAYERS + 1), ["embed-\ndings", *(f"after\nblock {layer}" for layer in range(LAYERS))])
    axes.tick_params(axis="x", labelsize=9)
    axes.set_ylabel("mean norm of the vectors")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left")
    return figure


def layer_norm(theme: Theme) -> Figure:
    """Draw the vector of one token before and after ln_2 of layer 2, without its scale and shift."""
    outputs = activations().outputs
    before = (stream()[2] + outputs["h.2.attn"])[TOKEN]
    normalized = (before - before.mean()) / np.sqrt(before.var() + 1e-5)
    figure = new_figure(4.4)
    word = tokens(SENTENCE)[TOKEN]
    panels = ((before, f"“{word}” before: ", theme.orange), (normalized, "after: ", theme.blue))
    for index, (vector, title, color) in enumerate(panels):
        axes = figure.add_subplot(2, 1, index + 1)
        mean, deviation = float(vector.mean()), float(vector.std())
        axes.fill_between(range(len(vector)), vector, step="mid", color=color, linewidth=0)
        axes.axhspan(mean - deviation, mean + deviation, color=theme.faint, alpha=0.25, linewidth=0)
        axes.axhline(mean, color=theme.ink, linewidth=0.8)
        axes.set_title(f"{title}mean {format_number(mean, 2)}, deviation {format_number(deviation, 2)}")
        axes.set_xlim(-1, len(vector))
    axes.set_xlabel("element of the vector")
    return figure
