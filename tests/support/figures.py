"""Read and use the figures of the x-ray page: their tables, tooltips, data and places."""

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

#: Pixels of the page of a place of a plot, in the values of its axes.
_PLACE = """(plot, [x, y]) => {
    const {xaxis, yaxis} = plot._fullLayout, box = plot.getBoundingClientRect();
    return [box.left + xaxis._offset + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)];
}"""


def figure(panel: Locator, index: int = 0) -> Locator:
    """Return a figure of a panel, once it is drawn and up to date."""
    found = panel.locator("figure.figure").nth(index)
    for _ in range(50):  # panels above it grow when they are drawn, and push it off the screen
        found.scroll_into_view_if_needed()
        if found.locator(".figure-plot .main-svg").first.is_visible():
            break
        found.page.wait_for_timeout(200)
    settled(found)
    return found


def settled(figure: Locator) -> None:
    """Wait until a figure is drawn and up to date."""
    expect(figure.locator(".figure-plot .main-svg").first).to_be_visible()
    expect(figure).not_to_have_attribute("aria-busy", "true")


def table(figure: Locator) -> list[list[str]]:
    """Return the cells of the table of a figure, without its heading; opens it."""
    details = figure.locator("details")
    if details.get_attribute("open") is None:
        details.locator("summary").click()
    expect(details.locator("tbody tr").first).to_be_visible()
    return details.locator("tbody tr").evaluate_all(
        "(rows) => rows.map((row) => [...row.cells].map((one) => one.textContent))"
    )


def place(figure: Locator, x: float | str, y: float | str) -> tuple[float, float]:
    """Return where the pointer is at these values of the axes; scrolls there."""
    plot, before = figure.locator(".figure-plot"), None
    for _ in range(50):  # panels above it may still be drawn, and move it
        plot.scroll_into_view_if_needed()
        found = plot.evaluate(_PLACE, [x, y])
        if found == before:
            break
        before = found
        figure.page.wait_for_timeout(200)
    left, top = found
    return left, top


def tooltip(tab: Page, figure: Locator, x: float | str, y: float | str) -> list[str]:
    """Point at a place of a plot and return the lines of the tooltip."""
    left, top = place(figure, x, y)
    tab.mouse.move(left - 2, top - 2)
    tab.mouse.move(left, top)
    tip = figure.locator(".figure-tooltip")
    expect(tip).to_be_visible()
    return tip.inner_text().splitlines()


def click(tab: Page, figure: Locator, x: float | str, y: float | str) -> None:
    """Click on a place of a plot."""
    tooltip(tab, figure, x, y)
    tab.mouse.down()
    tab.mouse.up()


def saved(tab: Page, figure: Locator, button: str) -> tuple[str, bytes]:
    """Press a button that saves a file; return its name and content."""
    with tab.expect_download() as download:
        figure.get_by_role("button", name=button, exact=True).click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def data(tab: Page, figure: Locator) -> dict[str, Any]:
    """Return the data that a figure saves."""
    name, content = saved(tab, figure, "Data")
    assert name.endswith(".json")
    found: dict[str, Any] = json.loads(content)
    return found


def digits(value: Any) -> str:
    """Return a number as the page writes it: six significant digits."""
    return f"{float(value):.6g}"


def number(text: str) -> float:
    """Return the number at the end of a line such as "attention 0.25"."""
    return float(text.split()[-1])
