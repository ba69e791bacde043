"""Two functions of numbers: the bend of the MLP, and the softmax at three temperatures."""

import numpy as np
import torch
from matplotlib.figure import Figure

from tools.figures.demo import inside, next_logits, tokenizer
from tools.figures.shade import Shade, sheet

PROMPT = "It was a pleasure to"
TEMPERATURES = (0.5, 1.0, 1.5)
SHOWN = 8


def bent(x: np.ndarray) -> np.ndarray:
    """Return PyTorch's GELU in the tanh form."""
    return torch.nn.functional.gelu(torch.from_numpy(x), approximate="tanh").numpy()


def gelu(shade: Shade) -> Figure:
    """Draw GELU and ReLU over what the MLPs of the demo hand to them."""
    found = np.concatenate([inside().outputs[f"h.{layer}.mlp.c_fc"].ravel() for layer in range(6)])
    x = np.linspace(-4, 3, 281)
    figure = sheet(3.3)
    axes = figure.add_subplot()
    shares, edges = np.histogram(found, bins=56, range=(-4, 3))
    shares = shares / shares.max()
    axes.bar(
        edges[:-1], shares, width=0.125, align="edge", color=shade.faint, alpha=0.45, label="how often, in the demo"
    )
    axes.plot(x, np.maximum(x, 0), color=shade.orange, linewidth=2, linestyle="--", label="ReLU")
    axes.plot(x, bent(x), color=shade.blue, linewidth=2.5, label="GELU, tanh form")
    axes.axhline(0, color=shade.faint, linewidth=0.8)
    axes.set_xlim(-4, 3)
    axes.set_ylim(-0.4, 3)
    axes.set_xlabel("x, what c_fc gives")
    axes.set_ylabel("what c_proj gets")
    axes.legend(loc="upper left")
    return figure


def at_temperature(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(logits / temperature)."""
    return torch.softmax(torch.from_numpy(logits) / temperature, dim=-1).numpy()


def softmax_temperature(shade: Shade) -> Figure:
    """Draw the likeliest next tokens of the demo at three temperatures."""
    logits = next_logits(PROMPT)
    likeliest = np.argsort(-logits)[:SHOWN]
    names = [tokenizer().decode([int(one)]).strip() for one in likeliest]
    figure = sheet(4.0)
    axes = figure.add_subplot()
    thick = 0.26
    for place, (temperature, colour) in enumerate(
        zip(TEMPERATURES, (shade.blue, shade.green, shade.orange), strict=True)
    ):
        shares = 100 * at_temperature(logits, temperature)[likeliest]
        at = np.arange(SHOWN) + (place - 1) * thick
        axes.barh(at, shares, height=thick, color=colour, label=f"temperature {temperature}")
    axes.set_yticks(range(SHOWN), names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_title(f"“{PROMPT} …”")
    axes.set_xlabel("probability of the next token, %")
    axes.legend(loc="lower right")
    return figure
