"""The site in headless Chromium, at the widths of a phone and of a desktop, in light and dark mode."""

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Literal

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from tests.book.pages import site_names
from tests.support.browser import browser_program

pytestmark = [pytest.mark.slow, pytest.mark.browser]

WIDTHS = (390, 1440)
THEMES: tuple[tuple[Literal["light", "dark"], str], ...] = (("light", "default"), ("dark", "slate"))
#: Find elements that extend beyond the screen, except inside an element with its own scroll bar, and missing images.
SCREEN = """() => {
    const scrolls = (one) => one && (getComputedStyle(one).overflowX === "auto" || scrolls(one.parentElement));
    const shown = (one) => one.checkVisibility() && one.getBoundingClientRect().width > 0;
    const inside = [...document.querySelectorAll(".md-content *, .md-footer *")].filter(shown);
    const images = [...document.images].filter(shown);
    return {
        beyond: inside.filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !scrolls(one))
            .map((one) => one.outerHTML.slice(0, 200)),
        missing: images.filter((one) => !one.naturalWidth).map((one) => one.src),
        other: images.filter((one) => one.src.includes("#only-")).map((one) => one.src),
    };
}"""


class QuietHandler(SimpleHTTPRequestHandler):
    """A file server without a log."""

    def log_message(self, format: str, *_args: object) -> None:  # noqa: A002  (the name in the base class)
        """Print nothing."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The address of the site, served locally."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    """A browser with access to the clipboard."""
    program = browser_program()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium.new_context(permissions=["clipboard-read", "clipboard-write"])
        chromium.close()


@pytest.fixture
def tab(browser: BrowserContext) -> Iterator[Page]:
    """A new tab."""
    page = browser.new_page()
    yield page
    page.close()


@pytest.fixture
def problems(tab: Page, address: str) -> list[str]:
    """The console messages, failed requests and requests to other hosts of the tab; filled while a test runs."""
    found: list[str] = []
    tab.on("console", lambda one: found.append(one.text) if one.type in ("error", "warning") else None)
    tab.on("pageerror", lambda one: found.append(str(one)))
    tab.on("requestfailed", lambda one: found.append(f"failed: {one.url}"))
    tab.on("response", lambda one: found.append(f"{one.status}: {one.url}") if one.status >= 400 else None)
    tab.on("request", lambda one: None if one.url.startswith((address, "data:")) else found.append(f"to: {one.url}"))
    return found


@pytest.mark.parametrize("name", site_names())
def test_page_fits_the_screen_and_has_no_missing_images(
    name: str, tab: Page, address: str, problems: list[str]
) -> None:
    tab.goto(f"{address}/{name.removesuffix('.md')}.html")
    tab.evaluate("[...document.images].forEach((one) => { one.loading = 'eager'; })")
    tab.evaluate("[...document.querySelectorAll('details')].forEach((one) => { one.open = true; })")
    for theme, scheme in THEMES:
        tab.emulate_media(color_scheme=theme)
        for width in WIDTHS:
            tab.set_viewport_size({"width": width, "height": 844})
            tab.wait_for_function("(scheme) => document.body.dataset.mdColorScheme === scheme", arg=scheme)
            tab.wait_for_function("[...document.images].every((one) => one.complete)")
            seen = tab.evaluate(SCREEN)
            assert not seen["beyond"], f"wider than {width} pixels"
            assert not seen["missing"]
            assert all(one.endswith(f"#only-{theme}") for one in seen["other"])
    assert not problems


def test_problems_are_detected(tab: Page, address: str, problems: list[str]) -> None:
    tab.goto(f"{address}/index.html")
    tab.evaluate("console.warn('a warning')")
    added = '<img src="no_such.svg" width=9 height=9><div style="width: 9000px">words</div>'
    tab.evaluate(f"document.querySelector('article').innerHTML += '{added}'")
    tab.wait_for_function("[...document.images].every((one) => one.complete)")
    assert "a warning" in problems
    assert f"404: {address}/no_such.svg" in problems
    seen = tab.evaluate(SCREEN)
    assert seen["beyond"] == ['<div style="width: 9000px">words</div>']
    assert seen["missing"] == [f"{address}/no_such.svg"]


def test_copy_button_copies_code(tab: Page, address: str, problems: list[str]) -> None:
    tab.goto(f"{address}/book/steps/step_04.html")
    block = tab.locator("div.highlight").first
    block.hover()
    block.locator("button[data-md-type=copy]").click()
    expect(tab.locator(".md-dialog--active")).to_be_visible()
    assert tab.evaluate("navigator.clipboard.readText()").strip() == block.locator("code").inner_text().strip()
    assert not problems


@pytest.mark.parametrize("width", WIDTHS)
def test_search_finds_conv1d(width: int, tab: Page, address: str, problems: list[str]) -> None:
    tab.set_viewport_size({"width": width, "height": 844})
    tab.goto(f"{address}/index.html")
    if width < 1000:
        tab.locator("label.md-header__button[for=__search]").click()
    tab.locator("input[name=query]").press_sequentially("Conv1D")
    expect(tab.locator(".md-search-result__meta")).to_contain_text("matching document")
    found = tab.locator("a.md-search-result__link").evaluate_all("(links) => links.map((one) => one.href)")
    assert any("/pretrained.html" in one for one in found), found
    assert not problems


def test_collapsed_hint_opens(tab: Page, address: str, problems: list[str]) -> None:
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.goto(f"{address}/book/steps/step_04.html")
    hint = tab.locator("details.tip").first
    assert not hint.locator("p").last.is_visible()
    hint.locator("summary").click()
    assert hint.locator("p").last.is_visible()
    assert not problems


def test_theme_can_be_switched(tab: Page, address: str, problems: list[str]) -> None:
    tab.emulate_media(color_scheme="light")
    tab.set_viewport_size({"width": 1440, "height": 844})
    tab.goto(f"{address}/index.html")
    seen = []
    for _ in range(3):  # the system theme, light, dark
        seen.append(tab.evaluate("document.body.dataset.mdColorScheme"))
        tab.locator("form[data-md-component=palette] label:visible").click()
    assert seen == ["default", "default", "slate"]
    assert not problems
