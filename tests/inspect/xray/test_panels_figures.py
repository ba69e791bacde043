"""Features of every figure of the x-ray page: saving, light and dark mode, narrow screens, and exported pages."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from max_gpt2.inspect import Tracer
from max_gpt2.inspect.xray.analysis import Analysis
from max_gpt2.inspect.xray.export import export
from tests.inspect.xray.conftest import PASSED, TEXT
from tests.support.figures import data, figure, saved, settled, table
from tests.support.xray import call, panel, ready, show_text

pytestmark = [pytest.mark.slow, pytest.mark.browser]

#: The figures by panel and number, with the names of their files.
FIGURES = (
    ("attribution", 0, "attribution-heads"),
    ("attribution", 1, "attribution-mlps"),
    ("lens", 0, "logit-lens"),
    ("norms", 0, "norms-position"),
    ("norms", 1, "norms"),
)
#: Find what extends beyond the screen, except in an element with a scroll bar of its own.
_BEYOND = """() => {
    const bar = (one) => ["auto", "scroll"].includes(getComputedStyle(one).overflowX);
    const scrolls = (one) => one && (bar(one) || scrolls(one.parentElement));
    return [...document.querySelectorAll("[data-panel] *")]
        .filter((one) => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1 && !scrolls(one))
        .map((one) => one.outerHTML.slice(0, 120));
}"""


def show_head(tab: Page) -> None:
    """Show a head of the attention in detail."""
    attention = panel(tab, "attention")
    attention.scroll_into_view_if_needed()
    button = attention.locator("button[data-layer='0'][data-head='1']")
    for _ in range(20):
        tab.mouse.move(0, 0)
        button.hover()
        tab.wait_for_timeout(300)
        if attention.locator("figcaption").inner_text() == "Layer 0, head 1":
            break
    settled(attention.locator("figure"))


def test_figures_are_saved_as_png_svg_and_json(shown: Page, tmp_path: Path) -> None:
    show_head(shown)
    for name, index, file in (*FIGURES, ("attention", 0, "attention-0-1")):
        found = figure(panel(shown, name), index)
        saved_as, content = saved(shown, found, "PNG")
        assert saved_as == f"{file}.png"
        (tmp_path / saved_as).write_bytes(content)
        with Image.open(tmp_path / saved_as) as picture:
            assert picture.width == 2 * found.locator(".figure-plot").evaluate("(one) => one.clientWidth")
            assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 10
        saved_as, content = saved(shown, found, "SVG")
        assert saved_as == f"{file}.svg"
        assert content.startswith(b"<svg")
        saved_as, content = saved(shown, found, "Data")
        assert saved_as == f"{file}.json"
        state = json.loads(content)
        assert state["model"] == "tiny"
        assert "".join(state["tokens"]) == TEXT


def background(tab: Page, name: str, index: int) -> str:
    plot = figure(panel(tab, name), index).locator(".figure-plot")
    color: str = plot.evaluate("(plot) => plot._fullLayout.paper_bgcolor")
    return color


def test_figures_follow_the_theme_of_the_page(shown: Page) -> None:
    theme = shown.get_by_role("button", name="Theme")
    show_head(shown)
    # A copy is read: Chromium warns of reading a canvas itself several times.
    picture = """(one) => {
        const copy = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
        copy.drawImage(one, one.width - 1, 0, 1, 1, 0, 0, 1, 1);
        return [...copy.getImageData(0, 0, 1, 1).data];
    }"""
    thumbnail = panel(shown, "attention").locator("canvas").first
    for label, dark in (("Theme: light", False), ("Theme: dark", True), ("Theme: system", False)):
        while theme.inner_text() != label:
            theme.click()
        surface = panel(shown, "lens").evaluate("(one) => getComputedStyle(one).backgroundColor")
        for name, index, _ in (*FIGURES, ("attention", 0, "")):
            plot = figure(panel(shown, name), index).locator(".figure-plot")
            expect(plot.locator(".main-svg").first).to_have_css("background-color", surface)
            ink = plot.evaluate("(plot) => plot._fullLayout.font.color")
            assert ink == panel(shown, name).evaluate("(one) => getComputedStyle(one).color")
        assert (sum(thumbnail.evaluate(picture)[:3]) < 300) == dark, "no attention blends into the page"


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_panels_fit_the_screen(width: int, shown: Page) -> None:
    shown.set_viewport_size({"width": width, "height": 900})
    show_head(shown)
    for name, index, _ in FIGURES:
        table(figure(panel(shown, name), index))
    assert not shown.evaluate(_BEYOND)
    for plot in shown.locator(".figure-plot").all():
        inside = plot.evaluate("(one) => one._fullLayout.width - one.clientWidth")
        assert abs(inside) <= 1


def test_plots_have_no_button_that_sends_data(shown: Page) -> None:
    found = figure(panel(shown, "lens"))
    titles = found.locator(".modebar-btn").evaluate_all("(buttons) => buttons.map((one) => one.dataset.title)")
    assert titles == ["Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"]


def test_tables_keep_what_is_read_in_them(shown: Page) -> None:
    figure(panel(shown, "attribution"), 0)
    assert panel(shown, "attribution").locator("table").count() == 0, "rows are made when the table is opened"
    result: Any = call(
        shown,
        """
        const { DataTable } = await module("table");
        const container = document.createElement("div");
        document.body.append(container);
        const table = new DataTable(container);
        let made = 0;
        table.set(() => {
          made += 1;
          return { columns: ["a", "b"], rows: Array.from({ length: 1234 }, (_, row) => [row, "<b>&amp;"]) };
        });
        const before = made;
        table.element.open = true;
        await new Promise((resolve) => setTimeout(resolve, 100));
        const cells = container.querySelectorAll("td");
        return [before, made, cells.length, cells[1].textContent, container.querySelector("caption").textContent];
        """,
    )
    assert result == [0, 1, 2000, "<b>&amp;", '1,000 of 1,234 rows are shown. "Data" saves all of them.']


def test_arrays_are_decoded_and_numbers_written(shown: Page) -> None:
    result: Any = call(
        shown,
        """
        const { NDArray, decode, format, tokenLabel } = await module("arrays");
        const data = btoa(String.fromCharCode(...new Uint8Array(new Float32Array([1, 2.5, NaN, 4, 5, 6]).buffer)));
        const { deep: [array] } = decode({ deep: [{ shape: [3, 2], dtype: "float32", data }] });
        let error = "";
        try { decode({ shape: [2], dtype: "float64", data }); } catch ({ message }) { error = message; }
        try { new NDArray([5], new Int32Array(3)); } catch ({ message }) { error += message; }
        return [array.at(0, 1), [...array.row(2)], JSON.stringify(array), error,
          [1 / 3, 12345678, 0.000012345678, NaN, -0.5].map(format), tokenLabel("  a b\\n\\t\\u0001 ")];
        """,
    )
    assert result == [
        2.5,
        [5, 6],
        "[[1,2.5],[null,4],[5,6]]",
        'The answer has an array of the unknown type "float64".An array of the shape [5] has 5 values, not 3.',
        ["0.333333", "12345678", "0.0000123457", "\N{EN DASH}", "-0.5"],
        "␣␣a b⏎⇥⟨U+0001⟩␣",
    ]


def test_panels_wait_for_a_text(tab: Page, xray: str) -> None:
    page = {**tab.request.get(f"{xray}/api/page").json(), "text": None}
    tab.route("**/api/page", lambda route: route.fulfill(json=page))
    tab.goto(xray)
    for name in ("attribution", "lens", "norms"):
        expect(panel(tab, name).locator(".figure-message").first).to_have_text("There is no text yet.")
    show_text(tab, "The quick brown fox")
    for name, index, _ in FIGURES:
        assert table(figure(panel(tab, name), index))
    show_head(tab)


def test_exported_page_shows_the_panels_without_a_server(
    browser: Browser, tracer: Tracer, tmp_path: Path, problems: list[str]
) -> None:
    file = tmp_path / "page.html"
    file.write_text(export(Analysis("tiny", tracer, PASSED), TEXT, bos=False), encoding="utf-8")
    tab = browser.new_page(viewport={"width": 1440, "height": 900})
    tab.on("console", lambda one: problems.append(one.text) if one.type in ("error", "warning") else None)
    tab.on("pageerror", lambda one: problems.append(str(one)))
    tab.goto(file.as_uri())
    ready(tab)
    show_head(tab)
    (trace,) = tracer.trace([data(tab, panel(tab, "attention").locator("figure"))["ids"]], ["h.0.attn.pattern"])
    pattern = data(tab, panel(tab, "attention").locator("figure"))["pattern"]
    np.testing.assert_allclose(pattern, trace["h.0.attn.pattern"][1], atol=1e-6)
    for name, index, _ in FIGURES:
        assert table(figure(panel(tab, name), index))
    # Nothing can be ablated.
    expect(panel(tab, "attention").locator(".attention-mlp").first).to_be_disabled()
    expect(panel(tab, "attention").locator(".attention-ablate")).to_be_hidden()
    expect(panel(tab, "attribution").get_by_label("minus that of", exact=True)).to_be_hidden()
    expect(panel(tab, "attribution").get_by_role("button", name="Ablate")).to_have_count(0)
    head = panel(tab, "attention").locator("button[data-layer='1'][data-head='0']")
    head.click()
    expect(panel(tab, "attention").locator("figcaption")).to_have_text("Layer 1, head 0")
    expect(head).to_have_attribute("aria-pressed", "false")
    tab.close()
    assert not problems


def test_missing_answers_of_an_exported_page_are_named(browser: Browser, tracer: Tracer, tmp_path: Path) -> None:
    page = export(Analysis("tiny", tracer, PASSED), TEXT, bos=False)
    before, mark, after = page.partition('<script type="application/json" id="data">')
    content, end, rest = after.partition("</script>")
    stored = json.loads(content)
    stored["answers"] = {key: one for key, one in stored["answers"].items() if key in ("view", "attention:0")}
    file = tmp_path / "page.html"
    shortened = json.dumps(stored).replace("<", "\\u003c")
    file.write_text(before + mark + shortened + end + rest, encoding="utf-8")
    tab = browser.new_page(viewport={"width": 1440, "height": 900})
    tab.goto(file.as_uri())
    ready(tab)
    missing = "Not in this file: run max-gpt2 xray."
    for name in ("attribution", "lens", "norms"):
        panel(tab, name).scroll_into_view_if_needed()
        expect(panel(tab, name).locator(".figure-message").first).to_have_text(missing)
    panel(tab, "attention").scroll_into_view_if_needed()
    rows = panel(tab, "attention").locator(".attention-row")
    expect(rows.nth(1).locator(".figure-message")).to_have_text(missing)
    expect(rows.nth(0).locator(".figure-message")).to_have_text("")
    rows.nth(0).locator("button[data-head='0']").click()
    expect(panel(tab, "attention").locator(".attention-detail .figure-message")).to_have_text(missing)
    tab.close()
