"""Draw the figures of the book from the demo checkpoint, each in a light and a dark theme: `make figures`."""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from tools.figures.attention import causal_mask, heads
from tools.figures.block import block
from tools.figures.cost import cache
from tools.figures.curves import gelu, softmax_temperature
from tools.figures.stream import layer_norm, residual_stream
from tools.figures.style import THEMES, Theme
from tools.figures.weights import embeddings, layout

FOLDER = Path(__file__).parent.parent / "docs" / "book" / "figures"


FIGURES: dict[str, Callable[[Theme], Figure]] = {
    "causal_mask": causal_mask,
    "layer_norm": layer_norm,
    "gelu": gelu,
    "embeddings": embeddings,
    "heads": heads,
    "residual_stream": residual_stream,
    "block": block,
    "softmax_temperature": softmax_temperature,
    "layout": layout,
    "cache": cache,
}


def draw(name: str, theme: Theme) -> bytes:
    """Return a figure as SVG; the same checkpoint produces the same bytes."""
    file = io.BytesIO()
    with theme.style():
        FIGURES[name](theme).savefig(file, format="svg", dpi=144, metadata={"Date": None, "Creator": None})
    return file.getvalue()


def main() -> None:
    """Draw the figures named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="figure", help=", ".join(FIGURES))
    names: list[str] = parser.parse_args().names or list(FIGURES)
    if unknown := [name for name in names if name not in FIGURES]:
        parser.error(f"no such figure: {unknown[0]}")
    FOLDER.mkdir(exist_ok=True)
    for name in names:
        for theme in THEMES:
            path = FOLDER / f"{name}-{theme.name}.svg"
            path.write_bytes(draw(name, theme))
            print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
