"""The logit lens and the norms of the residual stream on the x-ray page, beside transformers."""

from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Locator, Page, expect

from max_gpt2.inspect import Tracer
from tests.support.figures import click, data, digits, figure, number, settled, table, tooltip
from tests.support.xray import ablate, panel, ready, select_token, show_text

pytestmark = [pytest.mark.slow, pytest.mark.browser]

#: 60 tokens: more than fit beside each other.
LONG = "The quick brown fox jumps over the lazy dog. " * 3


def lens(tab: Page) -> Locator:
    return figure(panel(tab, "lens"))


def streams(torch_model: Any, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the residual streams [n_layer + 1, seq, n_embd] of transformers, and the logits after each of them."""
    kept: list[torch.Tensor] = []
    blocks = torch_model.transformer.h
    handles = [blocks[0].register_forward_pre_hook(lambda _module, inputs: kept.append(inputs[0]))]
    handles += [
        block.register_forward_hook(
            lambda _module, _inputs, output: kept.append(output[0] if isinstance(output, tuple) else output)
        )
        for block in blocks
    ]
    with torch.no_grad():
        torch_model(torch.tensor([ids]))
        found = torch.cat(kept)
        logits = torch_model.lm_head(torch_model.transformer.ln_f(found)).double()
    for handle in handles:
        handle.remove()
    return found.double().numpy(), logits.numpy()


def test_lens_shows_the_predictions_of_transformers(shown: Page, torch_model: Any, tracer: Tracer) -> None:
    saved = data(shown, lens(shown))
    ids, names, first, found = (saved[name] for name in ("ids", "layers", "first", "lens"))
    _, logits = streams(torch_model, ids)
    count = len(found["ids"][0])
    part = logits[:, first : first + count]
    probabilities = np.exp(part) / np.exp(part).sum(axis=-1, keepdims=True)
    np.testing.assert_array_equal(found["ids"], part.argmax(axis=-1))
    np.testing.assert_allclose(found["probabilities"], probabilities.max(axis=-1), rtol=1e-4)
    targets = [*ids[1:], int(logits[-1, -1].argmax())][first : first + count]
    assert found["targets"] == targets
    own = np.take_along_axis(probabilities, np.array(targets)[None, :, None], axis=-1)
    np.testing.assert_allclose(found["target_probabilities"], own[..., 0], rtol=1e-4)
    np.testing.assert_array_equal(found["ranks"], 1 + (probabilities > own).sum(axis=-1))

    position = len(ids) - 1
    rows = table(lens(shown))
    assert [row[0] for row in rows] == names == ["embeddings", *(f"h.{layer}" for layer in range(len(logits) - 1))]
    for layer, row in enumerate(rows):
        column = position - first
        assert [row[2], row[4], row[5]] == [
            digits(found["probabilities"][layer][column]),
            digits(found["target_probabilities"][layer][column]),
            str(found["ranks"][layer][column]),
        ]
        lines = tooltip(shown, lens(shown), column, names[layer])
        assert lines[0].startswith(f"After {names[layer]}, position {position}: ")
        assert lines[1] == f"most likely: {row[1]}, {row[2]}"
        assert lines[2] == f"the model's choice: {row[3]}, {row[4]}, rank {row[5]}"


def colors_of(one: Locator) -> list[list[float]]:
    """Return the values that are drawn."""
    values: list[list[float]] = one.locator(".figure-plot").evaluate("(plot) => plot.data[0].z")
    return values


def test_lens_is_colored_by_each_of_its_measures(shown: Page) -> None:
    found = data(shown, lens(shown))["lens"]
    choice = panel(shown, "lens").get_by_label("Color")
    for value, expected in (
        ("best", np.array(found["probabilities"])),
        ("target", np.array(found["target_probabilities"])),
        ("rank", np.log10(found["ranks"])),
    ):
        choice.select_option(value)
        drawn = np.array(colors_of(lens(shown)))
        assert drawn.shape[1] <= expected.shape[1]
        np.testing.assert_allclose(drawn, expected[:, -drawn.shape[1] :])


def test_window_of_the_lens_moves_and_follows_the_selected_token(shown: Page, tracer: Tracer) -> None:
    show_text(shown, LONG)
    ids = data(shown, lens(shown))["ids"]
    (trace,) = tracer.trace([ids], ["logits"])
    expected = trace.logit_lens()
    bar = panel(shown, "lens").locator(".panel-bar")
    bar.get_by_label("Positions").select_option("8")
    seen = bar.locator(".panel-range")

    def agrees(start: int) -> None:
        expect(seen).to_have_text(f"{start} to {start + 7} of {len(ids)}")
        drawn = colors_of(lens(shown))
        np.testing.assert_allclose(drawn, expected.probabilities[:, start : start + 8], rtol=1e-5)

    last = len(ids) - 8
    agrees(last)
    expect(bar.get_by_role("button", name="Later")).to_be_disabled()
    for start in (last - 4, last - 8):
        bar.get_by_role("button", name="Earlier").click()
        agrees(start)
    bar.get_by_role("button", name="Later").click()
    agrees(last - 4)
    select_token(shown, 2)
    agrees(0)
    expect(bar.get_by_role("button", name="Earlier")).to_be_disabled()
    click(shown, lens(shown), 5, "h.1")
    expect(shown.locator(".token[aria-selected=true]")).to_have_attribute("data-index", "5")
    agrees(0)
    assert [row[2] for row in table(lens(shown))] == [digits(one) for one in expected.probabilities[:, 5]]


def test_cells_of_the_lens_have_tokens_where_there_is_room(shown: Page) -> None:
    show_text(shown, LONG)
    texts = "(plot) => plot.querySelectorAll('.heatmaplayer text, .hm text').length"
    fits = panel(shown, "lens").get_by_label("Positions")
    fits.select_option("8")
    rows = len(colors_of(lens(shown)))
    assert lens(shown).locator(".figure-plot").evaluate(texts) == 8 * rows
    fits.select_option("64")
    settled(lens(shown))
    assert lens(shown).locator(".figure-plot").evaluate(texts) == 0
    fits.select_option("fit")
    for width in (390, 1440):
        shown.set_viewport_size({"width": width, "height": 900})
        shown.wait_for_timeout(300)
        columns = len(colors_of(lens(shown))[0])
        assert columns <= width / 44
        assert lens(shown).locator(".figure-plot").evaluate(texts) == columns * rows


def test_norms_are_those_of_transformers(shown: Page, torch_model: Any) -> None:
    line, whole = figure(panel(shown, "norms"), 0), figure(panel(shown, "norms"), 1)
    found = data(shown, whole)
    found_streams, _ = streams(torch_model, found["ids"])
    expected = np.linalg.norm(found_streams, axis=-1)
    np.testing.assert_allclose(found["norms"], expected, rtol=1e-4)
    names = found["layers"]
    assert tooltip(shown, whole, 3, names[1])[1] == f"after {names[1]}: {digits(found['norms'][1][3])}"
    select_token(shown, 3)
    expect(line.locator("figcaption")).to_contain_text("at position 3 (")
    at_position = [row[3] for row in found["norms"]]
    assert [row[1] for row in table(line)] == [digits(one) for one in at_position]
    assert data(shown, line)["norms"] == pytest.approx(at_position)
    assert number(tooltip(shown, line, names[2], at_position[2])[0]) == pytest.approx(at_position[2], rel=1e-5)
    click(shown, whole, 5, names[1])
    expect(line.locator("figcaption")).to_contain_text("at position 5 (")
    assert len(table(whole)) == expected.size


def test_norms_change_with_an_ablation(shown: Page) -> None:
    before = data(shown, figure(panel(shown, "norms"), 1))["norms"]
    expect(panel(shown, "norms").get_by_label("Color")).to_be_hidden()
    ablate(shown, 0, None)
    whole = figure(panel(shown, "norms"), 1)
    found = data(shown, whole)
    assert found["base_norms"] == before
    change = np.array(found["norms"]) - np.array(before)
    assert (change[0] == 0).all()
    assert (change[1:] != 0).all()
    panel(shown, "norms").get_by_label("Color").select_option("change")
    np.testing.assert_allclose(colors_of(whole), change)
    last = len(change[0]) - 1
    rows = table(figure(panel(shown, "norms"), 0))
    assert [row[2] for row in rows] == [digits(row[last]) for row in before]
    assert rows[1][3] == digits(change[1, last])
    ready(shown)
