"""The frame of the x-ray page: themes, widths, errors, verdicts, and what a screen reader finds."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.inspect.xray.conftest import PASSED, TEXT, UNKNOWN
from tests.support.xray import column, panel, ready, show_text

pytestmark = [pytest.mark.slow, pytest.mark.browser]

#: Find elements that extend beyond the screen, except inside an element with its own scroll bar.
BEYOND = """() => {
    const scrolls = (one) => one && (getComputedStyle(one).overflowX === "auto" || scrolls(one.parentElement));
    return [...document.querySelectorAll("body *")]
        .filter((one) => one.checkVisibility() && one.getBoundingClientRect().width > 1)
        .filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !scrolls(one))
        .map((one) => one.outerHTML.slice(0, 200));
}"""
#: Find fields and buttons without a name.
UNNAMED = """() => [...document.querySelectorAll("button, input, select, textarea")]
    .filter((one) => one.checkVisibility())
    .filter((one) => !(one.ariaLabel || one.textContent.trim() || one.labels?.length || one.title))
    .map((one) => one.outerHTML)"""
#: The contrast of the text of an element with what is behind it, as WCAG defines it.
CONTRAST = """(element) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const behind = (one) => (one ? [...behind(one.parentElement), getComputedStyle(one).backgroundColor] : []);
    const light = () => {
        const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((one) => one / 255)
            .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const paint = (color) => { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); };
    behind(element).forEach(paint);
    const back = light();
    paint(getComputedStyle(element).color);
    const [high, low] = [back, light()].sort((one, other) => other - one);
    return (high + 0.05) / (low + 0.05);
}"""


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_page_fits_the_screen(shown: Page, width: int) -> None:
    shown.get_by_role("button", name="Keyboard").click()
    shown.set_viewport_size({"width": width, "height": 900})
    for name in ("tokens", "next", "attribution", "attention", "lens", "norms"):
        panel(shown, name).scroll_into_view_if_needed()
        expect(panel(shown, name).locator("[aria-busy=true]")).to_have_count(0)
    assert not shown.evaluate(BEYOND)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_theme_follows_the_system_and_the_button(tab: Page, xray: str, scheme: str) -> None:
    tab.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    tab.goto(xray)
    ready(tab)
    root, button = tab.locator("html"), tab.locator("#theme")
    for choice, theme in (("system", scheme), ("light", "light"), ("dark", "dark"), ("system", scheme)):
        expect(button).to_have_text(f"Theme: {choice}")
        expect(root).to_have_attribute("data-theme", theme)
        button.click()
    tab.reload()
    ready(tab)
    expect(button).to_have_text("Theme: light")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable_on_its_color(shown: Page, theme: str) -> None:
    while shown.locator("html").get_attribute("data-theme") != theme:
        shown.locator("#theme").click()
    swatches = ["none", "surprise", "more", "less", "rank-1", "rank-2", "rank-3", "rank-4"]
    token = shown.locator(".token").first
    for name in swatches:
        token.evaluate("(one, name) => { one.dataset.color = name; one.style.setProperty('--level', '100%'); }", name)
        assert token.evaluate(CONTRAST) >= 4.5, name
    for selector in (".hint", "button.primary", "footer p", "legend"):
        assert shown.locator(selector).first.evaluate(CONTRAST) >= 4.5, selector


def test_errors_are_shown_and_can_be_dismissed(shown: Page, problems: list[str]) -> None:
    alert = shown.get_by_role("alert")
    controls = panel(shown, "controls")
    for text, sentence in (("", "The text is empty."), ("a" * 68, "The text has 68 tokens.")):
        controls.locator("textarea").fill(text)
        controls.get_by_role("button", name="Show").click()
        expect(alert).to_contain_text(sentence)
        assert "Traceback" not in alert.inner_text()
        assert "".join(shown.locator(".token").all_text_contents()).replace("⏎", "") == TEXT
    alert.get_by_role("button", name="Dismiss").click()
    expect(alert).to_be_hidden()
    assert {one.split(" (")[0] for one in problems} == {
        "Failed to load resource: the server responded with a status of 400"
    }
    problems.clear()


def test_step_beyond_the_context_changes_nothing(shown: Page, problems: list[str]) -> None:
    show_text(shown, "a" * 67)
    panel(shown, "next").get_by_role("button", name="Most likely").click()
    expect(shown.get_by_role("alert")).to_contain_text("68 tokens")
    expect(shown.locator(".token")).to_have_count(67)
    ready(shown)
    expect(panel(shown, "next").locator("figcaption")).to_contain_text("position 66")
    expect(panel(shown, "next").locator(".summary")).to_contain_text("can be sampled")
    problems.clear()
    panel(shown, "controls").get_by_role("button", name="Back").click()
    expect(shown.get_by_role("alert")).to_be_hidden()
    expect(shown.locator(".token")).to_have_count(17)


def test_server_that_ends_is_reported(shown: Page, problems: list[str]) -> None:
    shown.route("**/api/**", lambda route: route.abort("connectionrefused"))
    panel(shown, "next").get_by_role("button", name="Sample").click()
    expect(shown.get_by_role("alert")).to_contain_text("The server does not answer.")
    problems.clear()


def test_verdicts_are_at_the_foot(shown: Page) -> None:
    rows = shown.get_by_role("contentinfo").locator("p")
    for row, name, verdict, state in ((0, "tiny", PASSED, "passed"), (1, "other", UNKNOWN, "unknown")):
        expect(rows.nth(row)).to_contain_text(f"{name}: 3 layers, 3 heads, ")
        expect(rows.nth(row)).to_contain_text(str(verdict["text"]))
        expect(rows.nth(row)).to_have_attribute("data-verdict", state)


def test_bos_token_can_be_put_before_the_text(shown: Page) -> None:
    controls = panel(shown, "controls")
    controls.get_by_label("Start with the BOS token").check()
    controls.get_by_role("button", name="Show").click()
    expect(shown.locator(".token")).to_have_count(18)
    expect(shown.locator(".token").first).to_have_text("<|endoftext|>")
    expect(controls.locator("textarea")).to_have_value(TEXT)
    ready(shown)


def test_characters_in_several_tokens_return_to_the_field(shown: Page) -> None:
    show_text(shown, "a — b ⟨e2 80⟩ 😀")
    assert panel(shown, "controls").locator("textarea").input_value() == "a — b ⟨e2 80⟩ 😀"
    panel(shown, "next").locator(".choices button").first.click()
    expect(panel(shown, "controls").locator("textarea")).not_to_have_value("a — b ⟨e2 80⟩ 😀")
    assert panel(shown, "controls").locator("textarea").input_value().startswith("a — b ⟨e2 80⟩ 😀")
    ready(shown)


def test_screen_reader_finds_landmarks_and_names(shown: Page) -> None:
    shown.get_by_role("button", name="Compare").click()
    expect(column(shown, 1).locator(".token").first).to_be_visible()
    ready(shown)
    for role in ("banner", "main", "contentinfo"):
        expect(shown.get_by_role(role)).to_have_count(1)
    names = ("Text", "Tokens", "Next token", "Direct attribution", "Attention", "Logit lens", "Residual stream")
    for name in names:
        assert column(shown, 0).get_by_role("region", name=name, exact=True).count() == 1
    assert not shown.evaluate(UNNAMED)
    ids = shown.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    own = [one for one in ids if one and not one.startswith(("clip", "legend", "topdefs", "defs"))]
    assert len(own) == len({*own})
    expect(shown.locator("#announcer")).to_have_attribute("aria-live", "polite")
    shown.keyboard.press("Tab")


def test_tokens_are_exported_with_a_table(shown: Page, tmp_path: Path) -> None:
    tokens = panel(shown, "tokens")
    for name in ("SVG", "PNG", "Data"):
        with shown.expect_download() as download:
            tokens.get_by_role("button", name=name).click()
        download.value.save_as(tmp_path / download.value.suggested_filename)
    data = json.loads((tmp_path / "tokens.json").read_text())
    assert "".join(data["tokens"]) == TEXT
    assert data["surprisal"][0] is None
    assert len(data["top_ids"]) == 17
    svg = (tmp_path / "tokens.svg").read_text()
    assert svg.count("<rect") >= 18
    assert ">The</text>" in svg
    assert (tmp_path / "tokens.png").read_bytes().startswith(b"\x89PNG")
    tokens.get_by_text("Table").click()
    rows = tokens.locator("tbody tr")
    expect(rows).to_have_count(17)
    expect(rows.nth(0)).to_contain_text("The")
    assert float(rows.nth(4).locator("td").nth(3).inner_text()) == pytest.approx(data["surprisal"][4], rel=1e-5)
