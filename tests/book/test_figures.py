"""The stored figures match the demo checkpoint and the script that draws them."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from tests.book.pages import PAGES
from tools.draw_figures import FIGURES, draw
from tools.figures.cost import multiplications
from tools.figures.style import THEMES, format_number

pytestmark = pytest.mark.slow

_IMAGE = re.compile(r"data:image/png;base64,([^\"]+)")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
#: matplotlib names shapes after a hash of their numbers.
_HASHED = re.compile(r"(?<=[#\"(])[a-z]?[0-9a-f]{10,}\b")


def parts(svg: str) -> tuple[str, np.ndarray, list[np.ndarray]]:
    """Return a drawing as text, numbers and images; the last digits of the numbers may depend on the CPU."""
    images = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in _IMAGE.findall(svg)]
    rest = _HASHED.sub("", _IMAGE.sub("", svg))
    return _NUMBER.sub("0", rest), np.array([float(one) for one in _NUMBER.findall(rest)]), images


def same(left: str, right: str) -> bool:
    """Return True if two drawings agree within 0.05 points and 2 of 255 color levels."""
    (text, numbers, images), (other_text, other_numbers, other_images) = parts(left), parts(right)
    if text != other_text or not np.allclose(numbers, other_numbers, rtol=0, atol=0.05):
        return False
    pairs = zip(images, other_images, strict=True)
    return all(np.allclose(one.astype(int), other.astype(int), atol=2) for one, other in pairs)


@pytest.mark.parametrize("name", FIGURES)
def test_stored_figure_is_current(name: str) -> None:
    for theme in THEMES:
        stored = (PAGES / "figures" / f"{name}-{theme.name}.svg").read_text()
        assert same(stored, draw(name, theme).decode()), "run `make figures`"
        assert len(stored) < 150_000


def test_different_drawings_are_detected() -> None:
    light, dark = ((PAGES / "figures" / f"heads-{theme.name}.svg").read_text() for theme in THEMES)
    assert same(light, light)
    assert not same(light, dark)
    moved = light.replace('d="M ', 'd="M 9', 1)
    assert moved != light
    assert not same(light, moved)


def test_stored_figures_are_those_of_the_script() -> None:
    stored = {path.name for path in (PAGES / "figures").iterdir()}
    assert stored == {f"{name}-{theme.name}.svg" for name in FIGURES for theme in THEMES}


def test_multiplications_match_the_shapes() -> None:
    """Count 12 n_embd^2 per token in each of 6 layers, two products in attention, and the head once."""
    width, layers, vocab, length = 256, 6, 4096, 256
    without, cached = multiplications()
    one = layers * (12 * width**2 + 2 * width * length) + vocab * width
    assert cached[-1] == one
    assert without[-1] == length * layers * (12 * width**2 + 2 * width * length) + vocab * width


def test_numbers_have_typographic_minus_signs_and_no_negative_zero() -> None:
    assert format_number(-0.0001, 2) == "0.00"
    assert format_number(-1.5, 1) == "\N{MINUS SIGN}1.5"
