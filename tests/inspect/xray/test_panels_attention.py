"""Attention on the x-ray page: thumbnails, a head in detail, and ablation, beside the attention of transformers."""

from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.figures import click, data, number, settled, table, tooltip
from tests.support.xray import call, panel, ready, select_token

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def attention_of(torch_model: Any, tab: Page) -> np.ndarray:
    """Return the attention of transformers for the text of the page: [n_layer, n_head, seq, seq]."""
    ids = [int(one) for one in page_ids(tab)]
    with torch.no_grad():
        found = torch_model(torch.tensor([ids]), output_attentions=True).attentions
    return torch.stack(found)[:, 0].numpy()


def page_ids(tab: Page) -> list[int]:
    detail(tab, 0, 0)
    ids: list[int] = data(tab, panel(tab, "attention").locator("figure"))["ids"]
    return ids


def thumbnail(tab: Page, layer: int, head: int) -> Locator:
    return panel(tab, "attention").locator(f"button[data-layer='{layer}'][data-head='{head}']")


def mlp(tab: Page, layer: int) -> Locator:
    return panel(tab, "attention").locator(f"button.attention-mlp[data-layer='{layer}']")


def drawn(tab: Page) -> None:
    """Wait until all rows of thumbnails are up to date."""
    panel(tab, "attention").scroll_into_view_if_needed()
    expect(panel(tab, "attention").locator(".attention-row[data-drawn=false]")).to_have_count(0)
    expect(panel(tab, "attention").locator("[aria-busy=true]")).to_have_count(0)


def detail(tab: Page, layer: int, head: int) -> Locator:
    """Point at a head and return its figure."""
    drawn(tab)
    tab.mouse.move(0, 0)
    thumbnail(tab, layer, head).hover()
    found = panel(tab, "attention").locator("figure")
    expect(found.locator("figcaption")).to_have_text(f"Layer {layer}, head {head}")
    settled(found)
    return found


def test_detail_of_a_head_shows_the_attention_of_transformers(shown: Page, torch_model: Any) -> None:
    expected = attention_of(torch_model, shown)
    last = expected.shape[2] - 1
    for layer, head in ((0, 0), (2, 1)):
        found = detail(shown, layer, head)
        pattern = np.array(data(shown, found)["pattern"])
        np.testing.assert_allclose(pattern, expected[layer, head], atol=1e-5)
        for query, key in ((3, 1), (last, last)):
            lines = tooltip(shown, found, key, query)
            assert lines[0].startswith(f"query {query}: ")
            assert lines[1].startswith(f"key {key}: ")
            assert number(lines[2]) == pytest.approx(pattern[query, key], rel=1e-5)
        assert tooltip(shown, found, 5, 2) == ["A query attends to itself and to the keys before it."]
        shown.mouse.move(0, 0)
        rows = table(found)
        assert [int(row[0]) for row in rows] == list(np.argsort(-pattern[last], kind="stable"))
        np.testing.assert_allclose([float(row[2]) for row in rows], np.sort(pattern[last])[::-1], rtol=1e-5)


def test_thumbnails_have_the_colors_of_the_attention(shown: Page, torch_model: Any) -> None:
    expected = attention_of(torch_model, shown)
    drawn(shown)
    colors = call(
        shown,
        "const { colorTable, themeOf } = await module('colors');"
        "return [...colorTable(themeOf(document.querySelector('.attention-grid')).sequential, Math.sqrt)];",
    )
    scale = np.array(colors).reshape(256, 4)
    for layer, head in ((0, 1), (1, 0)):
        pixels = (
            thumbnail(shown, layer, head)
            .locator("canvas")
            .evaluate("(one) => [...one.getContext('2d').getImageData(0, 0, one.width, one.height).data]")
        )
        picture = np.array(pixels).reshape(*expected.shape[2:], 4)
        levels = np.round(255 * expected[layer, head]).astype(int)
        assert (picture == scale[levels]).all(axis=2).mean() > 0.99  # a level can be rounded up or down
    assert (scale[0] != scale[64]).any()


def test_detail_marks_the_attention_of_the_selected_token(shown: Page, torch_model: Any) -> None:
    expected = attention_of(torch_model, shown)
    found = detail(shown, 1, 0)
    select_token(shown, 6)
    key = int(expected[1, 0, 6, :7].argmax())
    expect(panel(shown, "attention").locator(".attention-top")).to_contain_text("(6) attends to ")
    assert f"({key}) {expected[1, 0, 6, key]:.4f}" in panel(shown, "attention").locator(".attention-top").inner_text()
    marks = found.locator(".figure-plot").evaluate("(plot) => plot.layout.shapes.map(({x1, y0, y1}) => [x1, y0, y1])")
    assert marks == [[6.5, 5.5, 6.5]]
    assert len(table(found)) == 7
    click(shown, found, 2, 9)
    expect(shown.locator(".token[aria-selected=true]")).to_have_attribute("data-index", "9")
    assert len(table(found)) == 10


def test_click_ablates_and_restores_a_head(shown: Page) -> None:
    one = thumbnail(shown, 1, 2)
    drawn(shown)
    one.click()
    expect(one).to_have_attribute("aria-pressed", "true")
    expect(one).to_have_attribute("aria-label", "Layer 1, head 2, ablated")
    expect(shown.locator("#announcer")).to_contain_text("layer 1, head 2")
    ready(shown)
    drawn(shown)
    found = panel(shown, "attention").locator("figure")
    expect(found.locator("figcaption")).to_have_text("Layer 1, head 2 (ablated)")
    settled(found)
    assert data(shown, found)["ablated"] == [{"layer": 1, "head": 2}]
    found.get_by_role("button", name="Restore head 2").click()
    expect(one).to_have_attribute("aria-pressed", "false")
    expect(found.get_by_role("button", name="Ablate head 2")).to_be_visible()


def test_row_header_ablates_the_mlp_and_later_layers_see_it(shown: Page) -> None:
    before = np.array(data(shown, detail(shown, 2, 0))["pattern"])
    mlp(shown, 1).click()
    expect(mlp(shown, 1)).to_have_attribute("aria-pressed", "true")
    ready(shown)
    after = data(shown, detail(shown, 2, 0))
    assert after["ablated"] == [{"layer": 1, "head": None}]
    assert np.abs(np.array(after["pattern"]) - before).max() > 1e-3
    mlp(shown, 1).click()
    expect(mlp(shown, 1)).to_have_attribute("aria-pressed", "false")
    ready(shown)
    np.testing.assert_array_equal(np.array(data(shown, detail(shown, 2, 0))["pattern"]), before)


def test_arrow_keys_move_through_the_grid_and_enter_ablates(shown: Page) -> None:
    drawn(shown)
    assert panel(shown, "attention").locator(".attention-grid button[tabindex='0']").count() == 1
    thumbnail(shown, 0, 0).focus()
    for key, layer, head in (("ArrowRight", 0, 1), ("ArrowDown", 1, 1), ("End", 1, 2), ("ArrowLeft", 1, 1)):
        shown.keyboard.press(key)
        expect(thumbnail(shown, layer, head)).to_be_focused()
        expect(thumbnail(shown, layer, head)).to_have_attribute("tabindex", "0")
    found = panel(shown, "attention").locator("figure figcaption")
    expect(found).to_have_text("Layer 1, head 1")
    shown.keyboard.press("Enter")
    expect(thumbnail(shown, 1, 1)).to_have_attribute("aria-pressed", "true")
    shown.keyboard.press("Home")
    expect(mlp(shown, 1)).to_be_focused()
    shown.keyboard.press("Space")
    expect(mlp(shown, 1)).to_have_attribute("aria-pressed", "true")
    shown.keyboard.press("ArrowUp")
    expect(mlp(shown, 0)).to_be_focused()
    shown.keyboard.press("ArrowUp")  # the first row is the end
    expect(mlp(shown, 0)).to_be_focused()


def test_tap_shows_a_head_and_its_button_ablates_it(browser: Browser, xray: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    tab = context.new_page()
    tab.goto(xray)
    ready(tab)
    panel(tab, "attention").scroll_into_view_if_needed()
    one = thumbnail(tab, 0, 1)
    one.tap()
    found = panel(tab, "attention").locator("figure")
    expect(found.locator("figcaption")).to_have_text("Layer 0, head 1")
    expect(one).to_have_attribute("aria-pressed", "false")
    found.get_by_role("button", name="Ablate head 1").tap()
    expect(one).to_have_attribute("aria-pressed", "true")
    expect(found.locator("figcaption")).to_have_text("Layer 0, head 1 (ablated)")
    context.close()


def test_error_of_the_server_is_shown_in_its_place(shown: Page, problems: list[str]) -> None:
    sentence = "The pattern does not fit into the memory."
    detail(shown, 0, 0)
    shown.route("**/api/head", lambda route: route.fulfill(status=400, json={"error": sentence}))
    thumbnail(shown, 1, 1).hover()
    expect(panel(shown, "attention").locator(".attention-detail .figure-message")).to_have_text(sentence)
    expect(panel(shown, "attention").locator(".figure-plot")).to_be_hidden()
    shown.unroute("**/api/head")
    detail(shown, 0, 2)
    expect(panel(shown, "attention").locator(".attention-detail .figure-message")).to_be_hidden()
    assert all("400" in one for one in problems)
    problems.clear()
