"""The tokens of the x-ray page: colors, tooltips, selection; numbers equal those of PyTorch."""

from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect

from max_gpt2.checkpoint import Checkpoint
from tests.inspect.xray.conftest import TEXT
from tests.support.xray import log2_softmax, panel, ready, select_token, show_text

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def ids(tiny_checkpoint: Checkpoint) -> list[int]:
    return tiny_checkpoint.tokenizer.encode(TEXT)


@pytest.fixture(scope="module")
def logprobs(torch_model: Any, ids: list[int]) -> np.ndarray:
    """The logprobs of PyTorch in bits, after each token: [seq, vocab] of float64."""
    with torch.no_grad():
        logits = torch_model(torch.tensor([ids])).logits[0]
    return log2_softmax(logits.numpy())


def test_tokens_and_their_surprisal_equal_those_of_pytorch(shown: Page, ids: list[int], logprobs: np.ndarray) -> None:
    tokens = shown.locator(".token")
    assert tokens.count() == len(ids)
    assert "".join(tokens.all_text_contents()).replace("⏎", "") == TEXT
    labels = tokens.evaluate_all("(all) => all.map((one) => one.ariaLabel)")
    assert labels[0] == "The, not predicted"
    for position in range(1, len(ids)):
        surprisal = float(labels[position].split(", surprisal ")[1].removesuffix(" bits"))
        assert surprisal == pytest.approx(-logprobs[position - 1, ids[position]], abs=1e-4)


def test_color_grows_with_the_surprisal(shown: Page, ids: list[int], logprobs: np.ndarray) -> None:
    levels = shown.locator(".token").evaluate_all(
        "(all) => all.map((one) => parseFloat(one.style.getPropertyValue('--level')))"
    )
    surprisal = -logprobs[np.arange(len(ids) - 1), ids[1:]]
    np.testing.assert_allclose(levels[1:], 100 * surprisal.clip(0, 16) / 16, atol=0.01)
    assert levels[0] == 0
    assert shown.locator(".legend li").all_text_contents() == [" 0", " 4", " 8", " 12", " 16 bits or more"]


def test_ranks_have_the_classes_of_gltr(shown: Page, ids: list[int], logprobs: np.ndarray) -> None:
    panel(shown, "tokens").get_by_label("rank").check()
    assert shown.locator(".legend li").all_text_contents() == [" top 10", " top 100", " top 1000", " others"]
    classes = shown.locator(".token").evaluate_all("(all) => all.map((one) => one.dataset.color)")
    own = logprobs[np.arange(len(ids) - 1), ids[1:]]
    ranks = 1 + (logprobs[:-1] > own[:, None]).sum(axis=1)
    assert classes[0] == "none"
    assert classes[1:] == [f"rank-{1 + int(np.searchsorted([10, 100, 1000], rank))}" for rank in ranks]
    assert len({*classes}) >= 3  # else the text shows too little


def test_tooltip_has_the_numbers_of_pytorch(shown: Page, ids: list[int], logprobs: np.ndarray) -> None:
    tip = shown.get_by_role("tooltip")
    expect(tip).to_be_hidden()
    shown.locator(".token").nth(6).hover()
    expect(tip).to_contain_text(f"id {ids[6]}, position 6")
    before = logprobs[5]
    expected = {
        "surprisal": -before[ids[6]],
        "rank": 1 + (before > before[ids[6]]).sum(),
        "entropy": -(2**before * before).sum(),
    }
    for name, value in expected.items():
        shown_value = tip.locator(f"[data-name={name}]").inner_text().removesuffix(" bits")
        assert float(shown_value) == pytest.approx(value, abs=1e-4), name
    listed = [float(one.rsplit(" ", 1)[1].removesuffix("%")) for one in tip.locator("li").all_inner_texts()]
    assert listed == pytest.approx(sorted(100 * 2**before, reverse=True)[:5], abs=1e-4)
    shown.mouse.move(0, 0)
    expect(tip).to_be_hidden()


def test_tooltip_of_the_first_token_says_that_it_is_not_predicted(shown: Page) -> None:
    shown.locator(".token").first.hover()
    expect(shown.get_by_role("tooltip")).to_contain_text("The first token is not predicted.")


def test_arrow_keys_select_tokens(shown: Page, ids: list[int]) -> None:
    tokens = shown.locator(".token")
    assert shown.locator(".token[tabindex='0']").count() == 1
    select_token(shown, 3)
    for key, position in (("ArrowRight", 4), ("ArrowLeft", 3), ("Home", 0), ("ArrowLeft", 0), ("End", len(ids) - 1)):
        shown.keyboard.press(key)
        expect(tokens.nth(position)).to_be_focused()
        expect(tokens.nth(position)).to_have_attribute("aria-selected", "true")
        assert shown.locator(".token[aria-selected=true]").count() == 1
    assert tokens.nth(len(ids) - 1).get_attribute("aria-describedby") == shown.get_by_role("tooltip").get_attribute(
        "id"
    )
    shown.keyboard.press("Escape")
    expect(shown.get_by_role("tooltip")).to_be_hidden()
    ready(shown)


def test_arrow_keys_select_tokens_of_other_lines(shown: Page) -> None:
    shown.set_viewport_size({"width": 390, "height": 900})
    select_token(shown, 2)
    tops = shown.locator(".token").evaluate_all("(all) => all.map((one) => one.offsetTop)")
    shown.keyboard.press("ArrowDown")
    below = int(shown.locator(".token[aria-selected=true]").get_attribute("data-index") or 0)
    assert tops[below] == min(top for top in tops if top > tops[2])
    shown.keyboard.press("ArrowUp")
    above = int(shown.locator(".token[aria-selected=true]").get_attribute("data-index") or 0)
    assert tops[above] == tops[2]


def test_selection_moves_the_distribution(shown: Page) -> None:
    caption = panel(shown, "next").locator("figcaption")
    expect(caption).to_have_text("Next token after position 16 (.)")
    select_token(shown, 4)
    expect(caption).to_contain_text("position 4 ")


def test_text_can_fill_the_context(shown: Page, tiny_checkpoint: Checkpoint) -> None:
    show_text(shown, "a" * tiny_checkpoint.config.n_positions)
    expect(shown.locator(".token")).to_have_count(tiny_checkpoint.config.n_positions)
    expect(panel(shown, "controls")).to_contain_text("67 of 67 tokens")
