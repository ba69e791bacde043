import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from max_gpt2.verify.compare import Difference, LogitsDifference
from max_gpt2.verify.html import render
from max_gpt2.verify.prompts import Prompt
from max_gpt2.verify.report import PromptResult, Report
from max_gpt2.verify.tokenizers import TokenizerCheck
from tests.support.browser import evaluate_in_browser

NEAR, FAR = Difference(2e-6, 3e-7, 6.0), Difference(0.5, 0.04, 12.0)


def report(block: Difference = NEAR, logits: float = 1e-5) -> Report:
    """A report of two layers; in the second, the attention is `block`."""
    states = {"embeddings": Difference(0.0, 0.0, 0.5)}
    states |= {f"h.{layer}{part}": NEAR for layer in range(2) for part in (".ln_1", ".attn", ".ln_2", ".mlp", "")}
    states |= {"h.1.attn": block, "ln_f": NEAR}
    result = PromptResult(
        Prompt("a <b>sentence</b>", [1, 2, 3]),
        states,
        LogitsDifference(logits, logits / 10, 10.0, positions=3, argmax_agreement=1.0),
        greedy_tokens=2,
        greedy_match=False,
        text="Is 1 < 2 & so?",
        continuations=("Yes <script>alert(1)</script>", "No & <i>no</i>"),
    )
    return Report("mine/<gpt2>", ("MAX", "PyTorch"), "transformers", NEAR, [result], {}, 1)


def page_of(one: Report) -> str:
    return render(one.to_json())


def test_page_shows_the_verdict_and_the_first_divergence() -> None:
    equal, apart = page_of(report()), page_of(report(FAR, logits=0.3))
    assert "MAX and PyTorch are equal." in equal
    assert "First divergence" not in equal
    assert "MAX and PyTorch are NOT equal." in apart
    assert '<strong class="bad">h.1.attn</strong>, by 5.0e-01' in apart
    assert apart.count("NOT equal</span>") == 3  # h.1.attn, and the logits in both tables


def test_page_shows_the_comparison_of_the_tokenizers() -> None:
    page = page_of(replace(report(), tokenizer=TokenizerCheck(9, ["<a>"], [], 3)))
    assert "1 of 9 texts have other ids" in page
    assert "&lt;a&gt;" in page
    assert "Tokenizer" not in page_of(report())


def test_page_escapes_text_from_checkpoints() -> None:
    page = page_of(report())
    assert "<script" not in page
    assert "<gpt2>" not in page
    for text in (
        "mine/&lt;gpt2&gt;",
        "a &lt;b&gt;sentence&lt;/b&gt;",
        "Is 1 &lt; 2 &amp; so?",
        "&lt;script&gt;",
        "&lt;i&gt;no",
    ):
        assert text in page


def test_page_is_self_contained() -> None:
    assert not re.findall(r"https?:|//|\bsrc=|\bhref=|@import|url\(", page_of(report()))


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30, float("inf")])
def test_plot_clamps_extreme_differences(value: float) -> None:
    page = page_of(report(Difference(value, value, 1.0)))
    spots = re.findall(r'c[xy]="(-?[\d.]+|\w+)"', page)
    assert len(spots) == 2 * 2 * 14  # x and y, of two differences, at wte, embeddings, 2 x 5 states, ln_f and logits
    assert all(0 <= float(spot) <= 960 for spot in spots)
    assert ("infinite" in page) is (value == float("inf"))


@pytest.mark.parametrize("width", [390, 1200])
def test_page_fits_the_browser_window(width: int, tmp_path: Path) -> None:
    found: dict[str, Any] = evaluate_in_browser(
        page_of(report(FAR, logits=0.3)),
        width,
        """{heading: document.querySelector("h1").textContent, circles: document.querySelectorAll("circle").length,
            red: document.querySelectorAll("circle.diverged").length,
            rows: document.querySelectorAll("tbody tr").length,
            plot: document.querySelector("svg").getBoundingClientRect().height,
            needed: document.documentElement.scrollWidth, given: window.innerWidth,
            verdict: getComputedStyle(document.querySelector(".verdict")).color}""",
        tmp_path,
    )
    assert found["heading"] == "mine/<gpt2>: MAX and PyTorch"
    assert found["circles"] == 28
    assert found["red"] == 4  # h.1.attn and the logits
    assert found["rows"] == 1 + 14
    assert found["plot"] > 200
    assert found["needed"] <= found["given"] == width
    assert found["verdict"] == "rgb(179, 38, 30)"
