"""The figures are those that the script draws of the checkpoint that ships."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from tests.book.pages import PAGES
from tools.draw_figures import drawn
from tools.figures import FIGURES
from tools.figures.cost import multiplications
from tools.figures.shade import SHADES, shown

_IMAGE = re.compile(r"data:image/png;base64,([^\"]+)")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
#: matplotlib names shapes by a hash of their numbers.
_HASHED = re.compile(r"(?<=[#\"(])[a-z]?[0-9a-f]{10,}\b")


def parts(svg: str) -> tuple[str, np.ndarray, list[np.ndarray]]:
    """Return a drawing as text, as numbers and as images; another processor may change the last digits of a number."""
    images = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in _IMAGE.findall(svg)]
    rest = _HASHED.sub("", _IMAGE.sub("", svg))
    return _NUMBER.sub("0", rest), np.array([float(one) for one in _NUMBER.findall(rest)]), images


def same(left: str, right: str) -> bool:
    """Whether two drawings show the same, to a twentieth of a point and two shades of 255."""
    (text, numbers, images), (other_text, other_numbers, other_images) = parts(left), parts(right)
    if text != other_text or not np.allclose(numbers, other_numbers, rtol=0, atol=0.05):
        return False
    pairs = zip(images, other_images, strict=True)
    return all(np.allclose(one.astype(int), other.astype(int), atol=2) for one, other in pairs)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_as_it_is_drawn_now(name: str) -> None:
    for shade in SHADES:
        stored = (PAGES / "figures" / f"{name}-{shade.name}.svg").read_text()
        assert same(stored, drawn(name, shade).decode()), "`make figures` draws them anew"
        assert len(stored) < 150_000


def test_another_drawing_is_told_apart() -> None:
    light, dark = ((PAGES / "figures" / f"heads-{shade.name}.svg").read_text() for shade in SHADES)
    assert same(light, light)
    assert not same(light, dark)
    moved = light.replace('d="M ', 'd="M 9', 1)
    assert moved != light
    assert not same(light, moved)


def test_all_figures_that_are_stored_are_drawn() -> None:
    stored = {path.name for path in (PAGES / "figures").iterdir()}
    assert stored == {f"{name}-{shade.name}.svg" for name in FIGURES for shade in SHADES}


def test_multiplications_are_counted_as_the_shapes_say() -> None:
    """12 n_embd^2 a token in each of 6 layers, two products of attention, and the head once."""
    width, layers, vocab, length = 256, 6, 4096, 256
    without, cached = multiplications()
    one = layers * (12 * width**2 + 2 * width * length) + vocab * width
    assert cached[-1] == one
    assert without[-1] == length * layers * (12 * width**2 + 2 * width * length) + vocab * width


def test_numbers_have_true_minus_signs_and_no_negative_zero() -> None:
    assert shown(-0.0001, 2) == "0.00"
    assert shown(-1.5, 1) == "\N{MINUS SIGN}1.5"
