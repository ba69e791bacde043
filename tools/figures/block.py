"""The way of the data through one block."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from tools.figures.demo import model
from tools.figures.shade import Shade, sheet

STREAM, SIDE = 1.2, 3.2
#: What a half of the block has beside the stream, from below: the module, and what it does.
HALVES = (
    (("ln_1", "LayerNorm"), ("attn", "tokens exchange")),
    (("ln_2", "LayerNorm"), ("mlp", "each token alone")),
)


def block(shade: Shade) -> Figure:
    """Draw the stream, and the two layers that read it and add to it."""
    names = dict(model().transformer.h[0].named_children())
    figure = sheet(5.4)
    axes = figure.add_subplot()
    axes.set_xlim(0, 5)
    axes.set_ylim(0, 7.3)
    axes.axis("off")
    _arrow(axes, shade, (STREAM, 0.35), (STREAM, 7.0), 3)
    axes.text(STREAM, 0.3, "x  [batch, seq, n_embd]", ha="center", va="top", fontsize=10)
    axes.text(STREAM, 7.05, "to the next block", ha="center", va="bottom", fontsize=10)
    axes.text(STREAM - 0.35, 3.7, "the residual stream", rotation=90, ha="center", va="center", fontsize=10)
    for half, parts in enumerate(HALVES):
        low = 0.8 + 3.1 * half
        colour = (shade.orange, shade.green)[half]
        _arrow(axes, shade, (STREAM, low), (SIDE, low), 1.5, colour, head=False)
        _arrow(axes, shade, (SIDE, low), (SIDE, low + 0.3), 1.5, colour)
        for place, (name, does) in enumerate(parts):
            assert name in names
            bottom = low + 0.3 + 0.95 * place
            _box(axes, bottom, name, does, colour)
            if place == 0:
                _arrow(axes, shade, (SIDE, bottom + 0.7), (SIDE, bottom + 0.95), 1.5, colour)
        top = low + 0.3 + 0.95 + 0.7
        _arrow(axes, shade, (SIDE, top), (SIDE, top + 0.35), 1.5, colour, head=False)
        _arrow(axes, shade, (SIDE, top + 0.35), (STREAM + 0.2, top + 0.35), 1.5, colour)
        axes.plot(STREAM, top + 0.35, "o", markersize=17, markerfacecolor=shade.paper, markeredgecolor=shade.blue,
                  markeredgewidth=2, zorder=5)  # fmt: skip
        axes.text(STREAM, top + 0.35, "+", ha="center", va="center_baseline", fontsize=14, zorder=6)
    return figure


def _box(axes: Axes, bottom: float, name: str, does: str, colour: str) -> None:
    axes.add_patch(
        FancyBboxPatch((SIDE - 1.1, bottom), 2.2, 0.7, boxstyle="round,pad=0,rounding_size=0.1", facecolor="none",
                       edgecolor=colour, linewidth=2)
    )  # fmt: skip
    axes.text(SIDE, bottom + 0.47, name, ha="center", va="center", fontsize=11, family="DejaVu Sans Mono")
    axes.text(SIDE, bottom + 0.2, does, ha="center", va="center", fontsize=9.5)


def _arrow(
    axes: Axes, shade: Shade, start: tuple[float, float], end: tuple[float, float], width: float,
    colour: str | None = None, head: bool = True,
) -> None:  # fmt: skip
    style = "-|>,head_length=5,head_width=3" if head else "-"
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle=style, linewidth=width, color=colour or shade.blue, shrinkA=0, shrinkB=0)
    )
