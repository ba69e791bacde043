"""Figures of functions: GELU, and the softmax at three temperatures."""

import numpy as np
import torch
from matplotlib.figure import Figure

from tools.figures.model import activations, next_logits, tokenizer
from tools.figures.style import Theme, new_figure

PROMPT = "It was a pleasure to"
TEMPERATURES = (0.5, 1.0, 1.5)
TOP = 8


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """Apply the tanh form of GELU."""
    return torch.nn.functional.gelu(torch.from_numpy(x), approximate="tanh").numpy()


def gelu(theme: Theme) -> Figure:
    """Draw GELU and ReLU over the distribution of their inputs in the demo."""
    inputs = np.concatenate([activations().outputs[f"h.{layer}.mlp.c_fc"].ravel() for layer in range(6)])
    x = np.linspace(-4, 3, 281)
    figure = new_figure(3.3)
    axes = figure.add_subplot()
    shares, edges = np.histogram(inputs, bins=56, range=(-4, 3))
    shares = shares / shares.max()
    axes.bar(edges[:-1], shares, width=0.125, align="edge", color=theme.faint, alpha=0.45, label="inputs in the demo")
    axes.plot(x, np.maximum(x, 0), color=theme.orange, linewidth=2, linestyle="--", label="ReLU")
    axes.plot(x, gelu_tanh(x), color=theme.blue, linewidth=2.5, label="GELU, tanh form")
    axes.axhline(0, color=theme.faint, linewidth=0.8)
    axes.set_xlim(-4, 3)
    axes.set_ylim(-0.4, 3)
    axes.set_xlabel("x, the output of c_fc")
    axes.set_ylabel("the input of c_proj")
    axes.legend(loc="upper left")
    return figure


def at_temperature(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(logits / temperature)."""
    return torch.softmax(torch.from_numpy(logits) / temperature, dim=-1).numpy()


def softmax_temperature(theme: Theme) -> Figure:
    """Draw the most likely next tokens of the demo at three temperatures."""
    logits = next_logits(PROMPT)
    top = np.argsort(-logits)[:TOP]
    names = [tokenizer().decode([int(token)]).strip() for token in top]
    figure = new_figure(4.0)
    axes = figure.add_subplot()
    thickness = 0.26
    for index, (temperature, color) in enumerate(
        zip(TEMPERATURES, (theme.blue, theme.green, theme.orange), strict=True)
    ):
        shares = 100 * at_temperature(logits, temperature)[top]
        at = np.arange(TOP) + (index - 1) * thickness
        axes.barh(at, shares, height=thickness, color=color, label=f"temperature {temperature}")
    axes.set_yticks(range(TOP), names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_title(f"“{PROMPT} …”")
    axes.set_xlabel("probability of the next token, %")
    axes.legend(loc="lower right")
    return figure
