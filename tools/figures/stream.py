"""The residual stream of the demo: how it grows, and what a normalization makes of it."""

import numpy as np
from matplotlib.figure import Figure

from tools.figures.demo import SENTENCE, inside, tokens
from tools.figures.shade import Shade, sheet, shown

LAYERS = 6
#: The token whose vector is shown, and where: what ln_2 of layer 2 reads and gives.
TOKEN, NORM = 4, "h.2.ln_2"


def norm(x: np.ndarray) -> float:
    """Return the mean length of the vectors: [seq, n_embd] -> one number."""
    return float(np.linalg.norm(x, axis=-1).mean())


def stream() -> list[np.ndarray]:
    """Return the stream before the first block and after each: 7 of [seq, n_embd]."""
    outputs = inside().outputs
    return [outputs["wte"] + outputs["wpe"], *(outputs[f"h.{layer}"] for layer in range(LAYERS))]


def residual_stream(shade: Shade) -> Figure:
    """Draw the mean length of the stream, and of what each layer adds to it."""
    outputs, places = inside().outputs, np.arange(1, LAYERS + 1)
    figure = sheet(3.6)
    axes = figure.add_subplot()
    for part, colour, shift in (("attn", shade.orange, -0.17), ("mlp", shade.green, 0.17)):
        added = [norm(outputs[f"h.{layer}.{part}"]) for layer in range(LAYERS)]
        label = "attention adds" if part == "attn" else "the MLP adds"
        axes.bar(places + shift, added, width=0.32, color=colour, label=label)
    axes.plot(
        range(LAYERS + 1), [norm(one) for one in stream()], "o-", color=shade.blue, linewidth=2, label="the stream"
    )
    axes.set_xticks(range(LAYERS + 1), ["embed-\ndings", *(f"after\nblock {one}" for one in range(LAYERS))])
    axes.tick_params(axis="x", labelsize=9)
    axes.set_ylabel("mean length of the vectors")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left")
    return figure


def layer_norm(shade: Shade) -> Figure:
    """Draw the vector of one token as ln_2 of layer 2 gets it, and as it gives it."""
    outputs = inside().outputs
    before = (stream()[2] + outputs["h.2.attn"])[TOKEN]
    normalized = (before - before.mean()) / np.sqrt(before.var() + 1e-5)
    figure = sheet(4.4)
    word = tokens(SENTENCE)[TOKEN]
    both = ((before, f"“{word}” before: ", shade.orange), (normalized, "and after: ", shade.blue))
    for place, (vector, title, colour) in enumerate(both):
        axes = figure.add_subplot(2, 1, place + 1)
        mean, deviation = float(vector.mean()), float(vector.std())
        axes.fill_between(range(len(vector)), vector, step="mid", color=colour, linewidth=0)
        axes.axhspan(mean - deviation, mean + deviation, color=shade.faint, alpha=0.25, linewidth=0)
        axes.axhline(mean, color=shade.ink, linewidth=0.8)
        axes.set_title(f"{title}mean {shown(mean, 2)}, deviation {shown(deviation, 2)}")
        axes.set_xlim(-1, len(vector))
    axes.set_xlabel("element of the vector")
    return figure
