"""Two columns of the x-ray page: two models, or two texts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect
from transformers import GPT2LMHeadModel

from max_gpt2.checkpoint import Checkpoint
from tests.inspect.xray.conftest import TEXT
from tests.support.xray import call, column, log2_softmax, panel, ready, select_token, show_text

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture
def compared(shown: Page) -> Page:
    shown.get_by_role("button", name="Compare").click()
    expect(shown.locator(".column")).to_have_count(2)
    expect(panel(shown, "tokens", 1).locator(".token")).to_have_count(17)
    ready(shown)
    return shown


@pytest.fixture(scope="module")
def surprisals(torch_model: GPT2LMHeadModel, other_original: Path, tiny_checkpoint: Checkpoint) -> list[np.ndarray]:
    """The surprisal of both models in PyTorch: twice [seq - 1]."""
    ids = tiny_checkpoint.tokenizer.encode(TEXT)
    other = GPT2LMHeadModel.from_pretrained(other_original, dtype=torch.float32)
    found = []
    for model in (torch_model, other):
        with torch.no_grad():
            logprobs = log2_softmax(model(torch.tensor([ids])).logits[0].numpy())
        found.append(-logprobs[np.arange(len(ids) - 1), ids[1:]])
    return found


def rows(tab: Page) -> list[list[str]]:
    return (
        tab.locator("#comparison table")
        .first.locator("tbody tr")
        .evaluate_all("(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))")
    )


def test_other_model_shows_the_same_text(compared: Page, surprisals: list[np.ndarray]) -> None:
    assert compared.locator(".column h2").all_inner_texts() == ["A: tiny", "B: other"]
    means = [one.mean() for one in surprisals]
    found = rows(compared)
    assert found[0] == ["Tokens", "17", "17", "17 agree"]
    for row in found[1:]:
        expected = [*means, means[0] - means[1]]
        assert [float(one) for one in row[1:]] == pytest.approx(expected, abs=1e-4)


def test_differences_color_the_tokens_of_both(compared: Page, surprisals: list[np.ndarray]) -> None:
    for index, sign in ((0, 1), (1, -1)):
        tokens = panel(compared, "tokens", index)
        tokens.get_by_label("difference of columns").check()
        labels = tokens.locator(".token").evaluate_all("(all) => all.map((one) => one.ariaLabel)")
        found = [float(one.split("difference of surprisal ")[1].split(" ")[0]) for one in labels[1:]]
        assert found == pytest.approx((sign * (surprisals[0] - surprisals[1])).tolist(), abs=1e-4)


def test_texts_are_aligned_where_their_tokens_agree(compared: Page) -> None:
    show_text(compared, TEXT.replace("brown fox", "brown, slow fox"), 1)
    found = rows(compared)
    others = panel(compared, "tokens", 1).locator(".token")
    extra = others.count() - 17
    assert extra > 0
    assert found[0][3] == "17 agree"
    select_token(compared, 1)
    expect(others.nth(1)).to_have_attribute("aria-selected", "true")
    select_token(compared, 16)
    expect(others.nth(16 + extra)).to_have_attribute("aria-selected", "true")
    ready(compared)
    compared.locator("#comparison summary").click()
    first = compared.locator("#comparison details tbody tr").first
    position = int(first.locator("td").first.inner_text())
    first.get_by_role("button").click()
    expect(panel(compared, "tokens").locator(".token").nth(position)).to_have_attribute("aria-selected", "true")
    ready(compared)


def test_alignment_is_the_longest_common_subsequence(shown: Page) -> None:
    rng = np.random.default_rng(5)
    for length, other, letters in ((12, 15, 3), (30, 20, 5), (9, 0, 3), (0, 0, 3), (25, 25, 2), (7, 7, 1)):
        left, right = rng.integers(0, letters, length).tolist(), rng.integers(0, letters, other).tolist()
        code = """const tokens = (ids) => ids.map((id) => ({ id, text: String(id) }));
        return (await module("align")).align(tokens(values[0]), tokens(values[1]));"""
        pairs = call(shown, code, left, right)
        assert isinstance(pairs, list)
        assert all(left[one] == right[two] for one, two in pairs)
        assert pairs == sorted(pairs)
        assert len({one for one, _ in pairs}) == len({two for _, two in pairs}) == len(pairs)
        longest = np.zeros((length + 1, other + 1), int)
        for row, column_ in np.ndindex(length, other):
            equal = left[row] == right[column_]
            longest[row + 1, column_ + 1] = max(
                longest[row, column_] + equal, longest[row, column_ + 1], longest[row + 1, column_]
            )
        assert len(pairs) == longest[-1, -1]


def test_second_column_closes_and_opens_again(compared: Page) -> None:
    button = compared.get_by_role("button", name="Compare")
    show_text(compared, "The dog", 1)
    button.click()
    expect(column(compared, 1)).to_be_hidden()
    expect(compared.locator("#comparison")).to_be_hidden()
    expect(panel(compared, "tokens").get_by_label("difference of columns")).to_be_hidden()
    assert compared.locator(".column h2").first.inner_text() == ""
    compared.keyboard.press("c")
    expect(column(compared, 1)).to_be_visible()
    assert panel(compared, "tokens", 1).locator(".token").count() == 2
    expect(button).to_have_attribute("aria-pressed", "true")


def test_columns_have_their_own_model_and_steps(compared: Page) -> None:
    panel(compared, "tokens", 1).locator(".token").last.click()
    compared.keyboard.press("g")
    expect(panel(compared, "tokens", 1).locator(".token")).to_have_count(18)
    assert panel(compared, "tokens").locator(".token").count() == 17
    ready(compared)
    panel(compared, "controls", 1).get_by_label("Model").select_option("tiny")
    panel(compared, "controls", 1).get_by_role("button", name="Show").click()
    expect(compared.locator(".column h2").nth(1)).to_have_text("B: tiny")
    ready(compared)
    assert rows(compared)[2][3] == "0"


@pytest.mark.parametrize(("width", "stacked"), [(390, True), (1440, False)])
def test_columns_are_side_by_side_where_there_is_room(compared: Page, width: int, stacked: bool) -> None:
    compared.set_viewport_size({"width": width, "height": 900})
    first, second = (column(compared, index).bounding_box() for index in (0, 1))
    assert first
    assert second
    assert (second["y"] > first["y"]) == stacked
    assert compared.evaluate("document.documentElement.scrollWidth") <= width
