"""The cost of the next token with and without a key-value cache, counted in the demo."""

import functools
from typing import Any

import torch
from matplotlib.figure import Figure
from torch.utils.flop_counter import FlopCounterMode

from tools.figures.model import ids, model
from tools.figures.style import Theme, new_figure

LENGTHS = (1, 64, 128, 192, 256)


@functools.cache
def multiplications() -> tuple[list[int], list[int]]:
    """Return the multiplications for the last token at each of `LENGTHS`, without and with a cache."""
    row = ids("It was a pleasure to ").repeat(1, 64)[:, : LENGTHS[-1]]
    without, cached = [], []
    for length in LENGTHS:
        without.append(_counted(row[:, :length], None))
        past = model()(row[:, : length - 1], use_cache=True).past_key_values if length > 1 else None
        cached.append(_counted(row[:, length - 1 : length], past))
    return without, cached


def _counted(row: torch.Tensor, past: Any) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model()(row, past_key_values=past, use_cache=True, logits_to_keep=1)
    return counter.get_total_flops() // 2  # a multiply-add counts as two


def cache(theme: Theme) -> Figure:
    """Draw the multiplications with and without a cache over the length of the sequence."""
    without, cached = multiplications()
    figure = new_figure(3.4)
    axes = figure.add_subplot()
    axes.plot(
        LENGTHS, [count / 1e6 for count in without], "s--", color=theme.orange, linewidth=2, label="without a cache"
    )
    axes.plot(LENGTHS, [count / 1e6 for count in cached], "o-", color=theme.blue, linewidth=2, label="with a cache")
    for counts, color, shift in ((without, theme.orange, (-16, -2)), (cached, theme.blue, (0, 7))):
        last, text = counts[-1] / 1e6, f"{counts[-1] / 1e6:,.1f} million"
        axes.annotate(text, (LENGTHS[-1], last), shift, textcoords="offset points", ha="right", color=color)
    axes.set_xlabel("tokens in the sequence")
    axes.set_ylabel("multiplications for the next\ntoken, millions")
    axes.set_xlim(0, 262)
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left")
    return figure
