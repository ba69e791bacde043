"""Ablations and the history of the x-ray page; the differences equal those of PyTorch with hooks."""

import re
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from max_gpt2.checkpoint import Checkpoint
from tests.inspect.xray.conftest import TEXT
from tests.support.activations import torch_activations
from tests.support.xray import ablate, log2_softmax, panel, ready, select_token, show_text

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def ids(tiny_checkpoint: Checkpoint) -> list[int]:
    return tiny_checkpoint.tokenizer.encode(TEXT)


@pytest.fixture(scope="module")
def plain(torch_model: Any, ids: list[int]) -> np.ndarray:
    """The logprobs in bits of PyTorch, [seq, vocab]."""
    return log2_softmax(torch_activations(torch_model, ids)["logits"])


@pytest.fixture(scope="module")
def ablated(torch_model: Any, ids: list[int]) -> np.ndarray:
    """The logprobs in bits of PyTorch without head 2 of layer 1 and the MLP of layer 0, by hooks."""

    def change(name: str, value: Any) -> Any:
        if name == "h.1.attn.z":
            value = value.clone()
            value[2] = 0
        return value * 0 if name == "h.0.mlp" else value

    return log2_softmax(torch_activations(torch_model, ids, change)["logits"])


def numbers(text: str) -> list[float]:
    return [float(one) for one in re.findall(r"[-+]?\d+(?:\.\d+)?(?:e[-+]\d+)?", text)]


def test_ablations_and_their_differences_equal_pytorch(
    shown: Page, ids: list[int], plain: np.ndarray, ablated: np.ndarray
) -> None:
    box = panel(shown, "ablations")
    expect(box).to_be_hidden()
    ablate(shown, 1, 2)
    ablate(shown, 0, None)
    assert box.locator("li").all_inner_texts() == ["layer 1, head 2 ✕", "layer 0, MLP ✕"]
    own = np.arange(len(ids) - 1), ids[1:]
    before, after = -plain[own].mean(), -ablated[own].mean()
    assert abs(after - before) > 0.005
    expect(box.locator("[data-name=divergence]")).to_be_visible()
    shown_numbers = numbers(box.locator("[data-name=surprisal]").inner_text())
    assert shown_numbers == pytest.approx([before, after, after - before], abs=1e-4)
    for position in (len(ids) - 1, 7):
        select_token(shown, position)
        divergence = (2 ** plain[position] * (plain[position] - ablated[position])).sum()
        assert numbers(box.locator("[data-name=divergence]").inner_text()) == pytest.approx([divergence], abs=1e-5)
        chances = [float(one.max()) for one in (2 ** plain[position], 2 ** ablated[position])]
        found = re.findall(r"([\d.]+)%", box.locator("[data-name=argmax]").inner_text())
        assert [float(one) / 100 for one in found] == pytest.approx(chances, rel=6e-3)


def test_tokens_show_the_change_of_the_surprisal(
    shown: Page, ids: list[int], plain: np.ndarray, ablated: np.ndarray
) -> None:
    radio = panel(shown, "tokens").get_by_label("change by ablation")
    expect(radio).to_be_hidden()
    ablate(shown, 1, 2)
    ablate(shown, 0, None)
    radio.check()
    own = np.arange(len(ids) - 1), ids[1:]
    change = plain[own] - ablated[own]
    labels = shown.locator(".token").evaluate_all("(all) => all.map((one) => one.ariaLabel)")
    found = [float(one.split("change of surprisal ")[1].split(" ")[0]) for one in labels[1:]]
    assert found == pytest.approx(change.tolist(), abs=1e-4)
    kinds = shown.locator(".token").evaluate_all("(all) => all.map((one) => one.dataset.color)")
    assert kinds[1:] == ["more" if one > 0 else "less" for one in change]
    levels = shown.locator(".token").evaluate_all(
        "(all) => all.map((one) => parseFloat(one.style.getPropertyValue('--level')))"
    )
    np.testing.assert_allclose(levels[1:], 100 * abs(change) / max(1, abs(change).max()), atol=0.1)
    shown.locator(".token").nth(6).hover()
    tip = numbers(shown.get_by_role("tooltip").locator("[data-name=surprisal]").inner_text())
    assert tip == pytest.approx([-ablated[5, ids[6]], -plain[5, ids[6]]], abs=1e-4)
    shown.get_by_role("button", name="Clear all").click()
    ready(shown)
    expect(radio).to_be_hidden()
    expect(panel(shown, "tokens").get_by_label("surprisal", exact=True)).to_be_checked()


def test_chips_restore_and_history_undoes(shown: Page) -> None:
    box, controls = panel(shown, "ablations"), panel(shown, "controls")
    back, forward = (controls.get_by_role("button", name=name) for name in ("Back", "Forward"))
    expect(back).to_be_disabled()
    ablate(shown, 1, 2)
    ablate(shown, 2, 0)
    box.get_by_role("button", name="Restore layer 1, head 2").click()
    ready(shown)
    assert box.locator("li").all_inner_texts() == ["layer 2, head 0 ✕"]
    steps = [
        (back, ["layer 1, head 2 ✕", "layer 2, head 0 ✕"]),
        (back, ["layer 1, head 2 ✕"]),
        (forward, ["layer 1, head 2 ✕", "layer 2, head 0 ✕"]),
    ]
    for button, expected in steps:
        button.click()
        ready(shown)
        assert box.locator("li").all_inner_texts() == expected
    box.get_by_role("button", name="Clear all").click()
    ready(shown)
    expect(box).to_be_hidden()
    expect(forward).to_be_disabled()


def test_history_restores_texts_and_positions(shown: Page) -> None:
    controls = panel(shown, "controls")
    select_token(shown, 5)
    panel(shown, "next").locator(".choices button").first.click()
    expect(shown.locator(".token")).to_have_count(7)
    ready(shown)
    appended = controls.locator("textarea").input_value()
    assert appended != TEXT
    show_text(shown, "The dog")
    controls.get_by_role("button", name="Back").click()
    expect(shown.locator(".token")).to_have_count(7)
    expect(controls.locator("textarea")).to_have_value(appended)
    ready(shown)
    controls.get_by_role("button", name="Back").click()
    expect(controls.locator("textarea")).to_have_value(TEXT)
    expect(shown.locator(".token").nth(5)).to_have_attribute("aria-selected", "true")
    ready(shown)


def test_text_that_is_edited_is_not_replaced(shown: Page) -> None:
    text = panel(shown, "controls").locator("textarea")
    text.fill("half a sent")
    ablate(shown, 1, 2)
    expect(text).to_have_value("half a sent")


def test_single_keys_act(shown: Page) -> None:
    tokens = shown.locator(".token")
    first = tokens.first
    for key, count in (("g", 18), ("s", 19), ("3", 20), ("b", 19), ("f", 20)):
        shown.keyboard.press(key)
        expect(tokens).to_have_count(count)
        ready(shown)
    expect(first).to_be_visible()
    ablate(shown, 1, 2)
    shown.keyboard.press("x")
    expect(panel(shown, "ablations")).to_be_hidden()
    ready(shown)
    shown.keyboard.press("?")
    expect(shown.locator("#help")).to_be_visible()
    shown.keyboard.press("t")
    shown.keyboard.press("g")
    text = panel(shown, "controls").locator("textarea")
    expect(text).to_be_focused()
    assert text.input_value().endswith("g")
    shown.keyboard.press("Escape")
    expect(text).not_to_be_focused()
    shown.get_by_label("Single keys, outside of fields").uncheck()
    shown.keyboard.press("g")
    shown.keyboard.press("?")
    expect(shown.locator("#help")).to_be_visible()
    expect(tokens).to_have_count(20)


def test_control_and_enter_submit_the_text(shown: Page) -> None:
    text = panel(shown, "controls").locator("textarea")
    text.fill("The")
    text.press("Control+Enter")
    expect(shown.locator(".token")).to_have_count(1)
    expect(panel(shown, "controls")).to_contain_text("1 of 67 tokens")
    ready(shown)
