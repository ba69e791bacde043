"""What a token costs with and without a cache, counted while the demo writes."""

from functools import cache as remembered
from typing import Any

import torch
from matplotlib.figure import Figure
from torch.utils.flop_counter import FlopCounterMode

from tools.figures.demo import ids, model
from tools.figures.shade import Shade, sheet

LENGTHS = (1, 64, 128, 192, 256)


@remembered
def multiplications() -> tuple[list[int], list[int]]:
    """Return the multiplications of the matrix products for the last of so many tokens: without and with a cache."""
    row = ids("It was a pleasure to ").repeat(1, 64)[:, : LENGTHS[-1]]
    without, cached = [], []
    for length in LENGTHS:
        without.append(_counted(row[:, :length], None))
        before = model()(row[:, : length - 1], use_cache=True).past_key_values if length > 1 else None
        cached.append(_counted(row[:, length - 1 : length], before))
    return without, cached


def _counted(row: torch.Tensor, before: Any) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model()(row, past_key_values=before, use_cache=True, logits_to_keep=1)
    return counter.get_total_flops() // 2  # it counts a multiplication and its addition as two


def cache(shade: Shade) -> Figure:
    """Draw both over the length of the text."""
    without, cached = multiplications()
    figure = sheet(3.4)
    axes = figure.add_subplot()
    axes.plot(LENGTHS, [one / 1e6 for one in without], "s--", color=shade.orange, linewidth=2, label="without a cache")
    axes.plot(LENGTHS, [one / 1e6 for one in cached], "o-", color=shade.blue, linewidth=2, label="with a cache")
    for counts, colour, shift in ((without, shade.orange, (-16, -2)), (cached, shade.blue, (0, 7))):
        last, text = counts[-1] / 1e6, f"{counts[-1] / 1e6:,.1f} million"
        axes.annotate(text, (LENGTHS[-1], last), shift, textcoords="offset points", ha="right", color=colour)
    axes.set_xlabel("tokens in the text")
    axes.set_ylabel("multiplications for the next\ntoken, millions")
    axes.set_xlim(0, 262)
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left")
    return figure
