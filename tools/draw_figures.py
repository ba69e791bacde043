"""Draw the figures of the book, each light and dark, from the checkpoint that ships: `make figures`."""

import argparse
import io
from pathlib import Path

from tools.figures import FIGURES
from tools.figures.shade import SHADES, Shade

FOLDER = Path(__file__).parent.parent / "docs" / "book" / "figures"


def drawn(name: str, shade: Shade) -> bytes:
    """Return a figure as SVG; the same checkpoint gives the same bytes."""
    file = io.BytesIO()
    with shade.style():
        FIGURES[name](shade).savefig(file, format="svg", dpi=144, metadata={"Date": None, "Creator": None})
    return file.getvalue()


def main() -> None:
    """Draw those that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="figure", help=", ".join(FIGURES))
    names: list[str] = parser.parse_args().names or list(FIGURES)
    if unknown := [name for name in names if name not in FIGURES]:
        parser.error(f"no such figure: {unknown[0]}")
    FOLDER.mkdir(exist_ok=True)
    for name in names:
        for shade in SHADES:
            path = FOLDER / f"{name}-{shade.name}.svg"
            path.write_bytes(drawn(name, shade))
            print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
