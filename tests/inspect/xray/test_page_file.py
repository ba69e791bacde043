"""The x-ray page as one file: the same numbers, without a server."""

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from max_gpt2.inspect import Tracer
from max_gpt2.inspect.xray.analysis import Analysis
from max_gpt2.inspect.xray.export import export
from tests.inspect.xray.conftest import PASSED, TEXT
from tests.support.xray import log2_softmax, panel, ready, select_token

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def file(tracer: Tracer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("xray") / "out.html"
    path.write_text(export(Analysis("tiny", tracer, PASSED), TEXT, bos=True), encoding="utf-8")
    return path


@pytest.fixture
def opened(tab: Page, file: Path) -> Page:
    tab.goto(file.as_uri())
    ready(tab)
    return tab


def test_file_has_the_numbers_of_the_trace(opened: Page, tracer: Tracer) -> None:
    ids = [tracer.tokenizer.start_id, *tracer.tokenizer.encode(TEXT)]
    (trace,) = tracer.trace([ids], ["logits"])
    logprobs = log2_softmax(trace["logits"])
    labels = opened.locator(".token").evaluate_all("(all) => all.map((one) => one.ariaLabel)")
    found = [float(one.split(", surprisal ")[1].removesuffix(" bits")) for one in labels[1:]]
    assert found == pytest.approx((-logprobs[np.arange(len(ids) - 1), ids[1:]]).tolist(), rel=1e-5)
    for position in (3, 17):
        select_token(opened, position)
        expect(panel(opened, "next").locator("figcaption")).to_contain_text(f"position {position} ")
        panel(opened, "next").locator("summary").click()
        cells = panel(opened, "next").locator("tbody tr").first.locator("td").all_inner_texts()
        assert int(cells[1]) == trace["logits"][position].argmax()
        assert float(cells[4]) == pytest.approx(2 ** logprobs[position].max(), rel=1e-4)
        panel(opened, "next").locator("summary").click()


def test_all_panels_show_something(opened: Page) -> None:
    for name in ("next", "attribution", "attention", "lens", "norms"):
        panel(opened, name).scroll_into_view_if_needed()
        expect(panel(opened, name).locator("[aria-busy=true]")).to_have_count(0)
        assert "Not in this file" not in panel(opened, name).inner_text()
        expect(panel(opened, name).locator("svg.main-svg, canvas").first).to_be_visible()


def test_sliders_work_without_a_server(opened: Page) -> None:
    panel(opened, "next").locator("[data-exact=topK]").fill("4")
    expect(panel(opened, "next").locator(".summary")).to_contain_text("4 of 311 tokens can be sampled.")


def test_what_needs_a_server_is_hidden(opened: Page) -> None:
    for name in ("Compare", "Show", "Back", "Forward", "Sample", "Most likely", "Append", "Ablate"):
        expect(opened.get_by_role("button", name=name, exact=True)).to_have_count(0)
    text = panel(opened, "controls").locator("textarea")
    expect(text).to_have_value(TEXT)
    expect(text).not_to_be_editable()
    opened.keyboard.press("g")
    opened.keyboard.press("?")
    expect(opened.locator("#help")).to_be_visible()
    expect(opened.locator("#help")).not_to_contain_text("sample a token")
    expect(opened.locator(".token")).to_have_count(18)
    expect(opened.get_by_role("contentinfo")).to_contain_text(str(PASSED["text"]))


def test_answer_that_is_missing_is_explained(tab: Page, file: Path, tmp_path: Path) -> None:
    smaller = tmp_path / "smaller.html"
    smaller.write_text(file.read_text(encoding="utf-8").replace('"next:3"', '"next:300"'), encoding="utf-8")
    tab.goto(smaller.as_uri())
    ready(tab)
    select_token(tab, 3)
    expect(panel(tab, "next")).to_contain_text("Not in this file: run max-gpt2 xray.")
    select_token(tab, 4)
    expect(panel(tab, "next")).not_to_contain_text("Not in this file")
