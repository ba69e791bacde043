"""Use the x-ray page in a browser as its users do."""

import numpy as np
from playwright.sync_api import Locator, Page, expect


def column(tab: Page, index: int = 0) -> Locator:
    """Return a column of the page."""
    return tab.locator(".column").nth(index)


def panel(tab: Page, name: str, index: int = 0) -> Locator:
    """Return a panel of a column by its name, such as "tokens"."""
    return column(tab, index).locator(f"[data-panel={name}]")


def ready(tab: Page) -> None:
    """Wait until the tokens of all columns are shown and up to date, and the panels that are on the screen."""
    expect(tab.locator(".token").first).to_be_visible()
    expect(tab.locator(".tokens[aria-busy]")).to_have_count(0)
    expect(tab.locator("[data-panel=next] .figure[aria-busy]")).to_have_count(0)
    expect(tab.locator("[data-panel=ablations]:not([hidden]) [aria-busy=true]")).to_have_count(0)


def show_text(tab: Page, text: str, index: int = 0) -> None:
    """Submit a text in a column."""
    panel(tab, "controls", index).locator("textarea").fill(text)
    panel(tab, "controls", index).get_by_role("button", name="Show").click()
    ready(tab)


def select_token(tab: Page, position: int, index: int = 0) -> None:
    """Click on a token of a column."""
    panel(tab, "tokens", index).locator(f".token[data-index='{position}']").click()
    ready(tab)


def call(tab: Page, expression: str, *values: object) -> object:
    """Return what an expression gives that sees the modules of the page: `await module("filters")`."""
    return tab.evaluate(
        f"async (values) => {{ const module = (name) => import(`xray/${{name}}`); {expression} }}", values
    )


def ablate(tab: Page, layer: int, head: int | None) -> None:
    """Ablate a head or the MLP of a layer with the tables of the attribution."""
    figure = panel(tab, "attribution").locator("figure").nth(0 if head is not None else 1)
    panel(tab, "attribution").scroll_into_view_if_needed()
    expect(figure).not_to_have_attribute("aria-busy", "true")
    details = figure.locator("details")
    if details.get_attribute("open") is None:
        details.locator("summary").click()
    name = f"{layer}{head}" if head is not None else f"h.{layer}.mlp"
    rows = details.locator("tbody tr")
    expect(rows.first).to_be_visible()
    start = rows.evaluate_all(
        "(rows, [name, cells]) => rows.findIndex((row) => "
        "[...row.cells].slice(0, cells).map((cell) => cell.textContent).join('') === name)",
        [name, 1 if head is None else 2],
    )
    assert start >= 0, name
    rows.nth(start).get_by_role("button", name="Ablate").click()
    expect(panel(tab, "ablations")).to_be_visible()
    ready(tab)


def log2_softmax(logits: object) -> np.ndarray:
    """Return logprobs in bits: [..., vocab] of float64."""
    values = np.asarray(logits, np.float64)
    values = values - values.max(axis=-1, keepdims=True)
    return (values - np.log(np.exp(values).sum(axis=-1, keepdims=True))) / np.log(2)
