"""Direct attribution on the x-ray page, beside `Trace.attribution` and the logits of transformers."""

from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Locator, Page, expect

from max_gpt2.inspect import Attribution, Tracer, ablate_head
from tests.support.figures import click, data, digits, figure, settled, table, tooltip
from tests.support.xray import panel, ready, select_token

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def heads(tab: Page) -> Locator:
    return figure(panel(tab, "attribution"), 0)


def others(tab: Page) -> Locator:
    return figure(panel(tab, "attribution"), 1)


def summary(tab: Page) -> str:
    heads(tab)
    return panel(tab, "attribution").locator(".panel-sum").inner_text()


def expected_parts(tracer: Tracer, found: dict[str, Any]) -> Attribution:
    """Return what the tracer attributes for the text, token and position of saved data."""
    (trace,) = tracer.trace([found["ids"]], ["logits"])
    return trace.attribution(found["token"], found["minus"], found["position"])


def assert_agrees(found: dict[str, Any], expected: Attribution) -> None:
    for name, value in vars(expected).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def logits_of(torch_model: Any, ids: list[int]) -> np.ndarray:
    with torch.no_grad():
        return torch_model(torch.tensor([ids])).logits[0].double().numpy()


def test_parts_add_up_to_the_logit_of_transformers(shown: Page, tracer: Tracer, torch_model: Any) -> None:
    select_token(shown, 4)
    found = data(shown, heads(shown))
    assert (found["position"], found["minus"]) == (4, None)
    assert found["token"] == found["ids"][5]
    assert_agrees(found, expected_parts(tracer, found))
    total = logits_of(torch_model, found["ids"])[4, found["token"]]
    assert found["total"] == pytest.approx(total, abs=1e-4)
    text = summary(shown)
    assert f"after position 4: {digits(found['total'])}. " in text
    assert float(text.split("= ")[-1].rstrip(".")) == pytest.approx(total, abs=1e-4)
    parts = [float(part.rsplit(" ", 1)[-1]) for part in text.split(". ", 1)[1].split(" = ")[0].split(" + ")]
    assert sum(parts) == pytest.approx(total, abs=1e-3)


def test_figures_and_tables_show_all_parts(shown: Page, tracer: Tracer) -> None:
    found = data(shown, heads(shown))
    expected = expected_parts(tracer, found)
    layers, count = expected.heads.shape
    rows = {(int(row[0]), int(row[1])): row[2] for row in table(heads(shown))}
    assert rows == {
        (layer, head): digits(found["heads"][layer][head]) for layer in range(layers) for head in range(count)
    }
    assert tooltip(shown, heads(shown), 1, 2) == [f"head 1 of layer 2: {rows[2, 1]}", "click to ablate"]
    bars = {row[0]: row[1] for row in table(others(shown))}
    assert bars == {
        **{f"h.{layer}.mlp": digits(found["mlps"][layer]) for layer in range(layers)},
        **{f"bias of h.{layer}.attn": digits(found["biases"][layer]) for layer in range(layers)},
        "embeddings": digits(found["embeddings"]),
        "bias of ln_f": digits(found["ln_f"]),
    }
    lines = tooltip(shown, others(shown), "h.1", found["mlps"][1] / 2)
    assert lines[0] == f"h.1.mlp: {bars['h.1.mlp']}"


def choose(tab: Page, label: str, value: str) -> None:
    panel(tab, "attribution").get_by_label(label, exact=True).select_option(value)
    settled(heads(tab))


def test_other_tokens_and_differences_can_be_chosen(shown: Page, tracer: Tracer, torch_model: Any) -> None:
    first = data(shown, heads(shown))
    likely = np.argsort(-logits_of(torch_model, first["ids"])[-1])
    choose(shown, "Logit of", str(likely[1]))
    choose(shown, "minus that of", str(likely[2]))
    found = data(shown, heads(shown))
    assert (found["token"], found["minus"]) == (likely[1], likely[2])
    assert_agrees(found, expected_parts(tracer, found))
    assert " minus that of " in summary(shown)
    # Both stay chosen at another position.
    select_token(shown, 2)
    found = data(shown, heads(shown))
    assert (found["token"], found["minus"], found["position"]) == (likely[1], likely[2], 2)
    choose(shown, "minus that of", "none")
    choose(shown, "Logit of", "next")
    found = data(shown, heads(shown))
    assert (found["token"], found["minus"]) == (found["ids"][3], None)


def test_token_is_chosen_by_its_text(shown: Page, tracer: Tracer) -> None:
    heads(shown)
    panel(shown, "attribution").get_by_label("Logit of", exact=True).select_option("other")
    field = panel(shown, "attribution").get_by_label("Logit of: text of the token")
    expect(field).to_be_focused()
    field.fill(" the lazy dog")
    field.press("Enter")
    message = panel(shown, "attribution").locator("figure .figure-message").first
    expect(message).to_contain_text("“ the lazy dog” is")
    field.fill(" the")
    field.press("Enter")
    expect(message).to_be_hidden()
    found = data(shown, heads(shown))
    assert found["token"] == tracer.tokenizer.encode(" the")[0]
    assert_agrees(found, expected_parts(tracer, found))
    assert "Logit of ␣the after" in summary(shown)


def test_click_on_a_head_ablates_it_and_shows_the_change(shown: Page, tracer: Tracer) -> None:
    before = data(shown, heads(shown))
    expect(panel(shown, "attribution").get_by_label("Show")).to_be_hidden()
    click(shown, heads(shown), 2, 1)
    expect(panel(shown, "ablations")).to_be_visible()
    ready(shown)
    found = data(shown, heads(shown))
    assert found["ablated"] == [{"layer": 1, "head": 2}]
    assert found["heads"][1][2] == 0
    for name in ("heads", "mlps", "biases", "embeddings", "ln_f", "total"):
        assert found[f"base_{name}"] == before[name]
    (trace,) = Tracer(tracer.stages, tracer.tokenizer, (ablate_head(1, 2),)).trace([found["ids"]], ["logits"])
    assert_agrees(found, trace.attribution(found["token"], None, found["position"]))
    panel(shown, "attribution").get_by_label("Show").select_option("change")
    drawn = heads(shown).locator(".figure-plot").evaluate("(plot) => [plot.data[0].z, plot.data[0].text]")
    np.testing.assert_allclose(drawn[0], np.array(found["heads"]) - np.array(before["heads"]))
    assert drawn[1][1][2] == "\N{MULTIPLICATION SIGN}"
    change = found["total"] - before["total"]
    assert f"{digits(found['total'])}, {'+' if change >= 0 else ''}{digits(change)} by the ablations" in summary(shown)
    # The table restores it, and keeps the focus.
    table(heads(shown))
    button = heads(shown).get_by_role("button", name="Restore")
    button.focus()
    button.press("Enter")
    expect(panel(shown, "ablations")).to_be_hidden()


def test_click_on_a_bar_ablates_an_mlp(shown: Page) -> None:
    found = data(shown, heads(shown))
    click(shown, others(shown), "h.2", found["mlps"][2] / 2)
    expect(panel(shown, "ablations")).to_be_visible()
    ready(shown)
    found = data(shown, others(shown))
    assert found["ablated"] == [{"layer": 2, "head": None}]
    assert found["mlps"][2] == 0
