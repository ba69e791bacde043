"""The diagram of one transformer block."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from tools.figures.model import model
from tools.figures.style import Theme, new_figure

STREAM, BRANCH = 1.2, 3.2  # x coordinates
#: The modules of the two branches, from the bottom up, each with a short description.
BRANCHES = (
    (("ln_1", "LayerNorm"), ("attn", "mixes tokens")),
    (("ln_2", "LayerNorm"), ("mlp", "each token alone")),
)


def block(theme: Theme) -> Figure:
    """Draw the residual stream and the two branches that read it and add to it."""
    names = dict(model().transformer.h[0].named_children())
    figure = new_figure(5.4)
    axes = figure.add_subplot()
    axes.set_xlim(0, 5)
    axes.set_ylim(0, 7.3)
    axes.axis("off")
    _arrow(axes, (STREAM, 0.35), (STREAM, 7.0), theme.blue, width=3)
    axes.text(STREAM, 0.3, "x  [batch, seq, n_embd]", ha="center", va="top", fontsize=10)
    axes.text(STREAM, 7.05, "to the next block", ha="center", va="bottom", fontsize=10)
    axes.text(STREAM - 0.35, 3.7, "the residual stream", rotation=90, ha="center", va="center", fontsize=10)
    for index, parts in enumerate(BRANCHES):
        low = 0.8 + 3.1 * index
        color = (theme.orange, theme.green)[index]
        _arrow(axes, (STREAM, low), (BRANCH, low), color, head=False)
        _arrow(axes, (BRANCH, low), (BRANCH, low + 0.3), color)
        for position, (name, does) in enumerate(parts):
            assert name in names
            bottom = low + 0.3 + 0.95 * position
            _box(axes, bottom, name, does, color)
            if position == 0:
                _arrow(axes, (BRANCH, bottom + 0.7), (BRANCH, bottom + 0.95), color)
        top = low + 0.3 + 0.95 + 0.7
        _arrow(axes, (BRANCH, top), (BRANCH, top + 0.35), color, head=False)
        _arrow(axes, (BRANCH, top + 0.35), (STREAM + 0.2, top + 0.35), color)
        axes.plot(STREAM, top + 0.35, "o", markersize=17, markerfacecolor=theme.paper, markeredgecolor=theme.blue,
                  markeredgewidth=2, zorder=5)  # fmt: skip
        axes.text(STREAM, top + 0.35, "+", ha="center", va="center_baseline", fontsize=14, zorder=6)
    return figure


def _box(axes: Axes, bottom: float, name: str, does: str, color: str) -> None:
    axes.add_patch(
        FancyBboxPatch((BRANCH - 1.1, bottom), 2.2, 0.7, boxstyle="round,pad=0,rounding_size=0.1", facecolor="none",
                       edgecolor=color, linewidth=2)
    )  # fmt: skip
    axes.text(BRANCH, bottom + 0.47, name, ha="center", va="center", fontsize=11, family="DejaVu Sans Mono")
    axes.text(BRANCH, bottom + 0.2, does, ha="center", va="center", fontsize=9.5)


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str,
    width: float = 1.5, head: bool = True,
) -> None:  # fmt: skip
    style = "-|>,head_length=5,head_width=3" if head else "-"
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle=style, linewidth=width, color=color, shrinkA=0, shrinkB=0))
