"""The next token on the x-ray page: filters equal the engine's, steps equal its sampler."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect
from transformers import GPT2LMHeadModel

from max_gpt2.checkpoint import Checkpoint
from max_gpt2.generation import SamplingParams
from max_gpt2.generation.logits import History, make_sampler, softmax, warp
from tests.inspect.xray.conftest import TEXT
from tests.support.xray import call, panel, ready, select_token, show_text

pytestmark = [pytest.mark.slow, pytest.mark.browser]

FILTER = """
const { filter, KEPT } = await module("filters");
return values[0].map(([logits, settings, size]) => {
  const { cut, renormalized, kept, cutMass } = filter(Float32Array.from(logits), settings, size);
  const ids = [...cut].flatMap((one, id) => one === KEPT ? [id] : []);
  return { kept: ids, renormalized: [...renormalized], count: kept, cutMass };
});
"""


@pytest.fixture(scope="module")
def torch_logits(torch_model: GPT2LMHeadModel, tiny_checkpoint: Checkpoint) -> np.ndarray:
    """The logits of PyTorch after each token of the text: [seq, vocab]."""
    with torch.no_grad():
        ids = tiny_checkpoint.tokenizer.encode(TEXT)
        return torch_model(torch.tensor([ids])).logits[0].numpy()


def test_filters_keep_what_the_engine_keeps(shown: Page) -> None:
    rng = np.random.default_rng(7)
    size = 40
    # Rounded logits have ties; the last two lists are all ties, and one certain token.
    logits = [
        *(rng.normal(0, 2, 43).astype(np.float32) for _ in range(4)),
        *(np.round(rng.normal(0, 2, 43)).astype(np.float32) for _ in range(8)),
        np.zeros(43, np.float32),
        np.where(np.arange(43) == 5, 90, 0).astype(np.float32),
    ]
    settings = list(itertools.product((0.3, 1, 1.7), (0, 1, 5, 10, 99), (1, 0.9, 0.5, 0.25, 0.01)))
    settings += [(0, 0, 1), (0, 5, 0.5)]
    cases = list(itertools.product(logits, settings))
    asked = [[one.tolist(), {"temperature": t, "topK": k, "topP": p}, size] for one, (t, k, p) in cases]
    answers = call(shown, FILTER, asked)
    assert isinstance(answers, list)
    cuts = set()
    for (one, (temperature, top_k, top_p)), answer in zip(cases, answers, strict=True):
        scores = one.astype(np.float64)
        scores[size:] = -np.inf
        if temperature:
            params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p)
            expected, plain = softmax(warp(scores, params)), softmax(scores / temperature)
        else:
            expected, plain = (np.arange(43) == scores.argmax()).astype(float), softmax(scores)
        kept = np.flatnonzero(expected)
        assert answer["kept"] == kept.tolist(), (one, temperature, top_k, top_p)
        assert answer["count"] == len(kept)
        np.testing.assert_allclose(answer["renormalized"], expected, rtol=1e-12)
        assert answer["cutMass"] == pytest.approx(1 - plain[kept].sum(), abs=1e-12)
        cuts.add(len(kept))
    assert len(cuts) > 10


def test_divergence_equals_that_of_pytorch(shown: Page) -> None:
    rng = np.random.default_rng(8)
    old, new = (rng.normal(0, 3, 50).astype(np.float32) for _ in range(2))
    code = "return (await module('filters')).divergence(Float32Array.from(values[0]), Float32Array.from(values[1]))"
    found = call(shown, code, old.tolist(), new.tolist())
    p, q = (torch.log_softmax(torch.tensor(one, dtype=torch.float64), 0) for one in (old, new))
    expected = torch.nn.functional.kl_div(q, p, reduction="sum", log_target=True) / np.log(2)
    assert found == pytest.approx(float(expected), rel=1e-9)


def table(tab: Page) -> list[list[str]]:
    """Return the rows of the table of the next token."""
    details = panel(tab, "next").locator("details")
    if details.get_attribute("open") is None:
        details.locator("summary").click()
    rows = details.locator("tbody tr")
    expect(rows.first).to_be_visible()
    return rows.evaluate_all("(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))")


def test_distribution_equals_that_of_pytorch(shown: Page, torch_logits: np.ndarray) -> None:
    for position in (16, 4):
        select_token(shown, position)
        expected = softmax(torch_logits[position].astype(np.float64))
        rows = table(shown)
        assert len(rows) == 200
        assert [int(row[1]) for row in rows[:20]] == np.argsort(-expected, kind="stable")[:20].tolist()
        for row in rows[:20]:
            assert float(row[3]) == pytest.approx(torch_logits[position, int(row[1])], abs=1e-3)
            assert float(row[4]) == pytest.approx(expected[int(row[1])], abs=1e-4)
            assert row[2] == "kept"


def test_sliders_show_what_is_cut(shown: Page, torch_logits: np.ndarray) -> None:
    next_ = panel(shown, "next")
    expect(next_.locator(".summary")).to_contain_text("300 of 311 tokens")
    for name, value in (("temperature", "1.5"), ("topK", "8"), ("topP", "0.7")):
        next_.locator(f"[data-exact={name}]").fill(value)
    scores = torch_logits[-1].astype(np.float64)
    scores[300:] = -np.inf
    expected = softmax(warp(scores, SamplingParams(temperature=1.5, top_k=8, top_p=0.7)))
    kept = np.flatnonzero(expected)
    text = next_.locator(".summary").inner_text()
    assert text.startswith(f"{len(kept)} of 311 tokens can be sampled.")
    found = re.search(r"have ([\d.]+)% of the probability", text)
    cut = 1 - softmax(scores / 1.5)[kept].sum()
    assert found
    assert float(found[1]) == pytest.approx(100 * cut, abs=1e-2)
    states = {row[2]: row for row in table(shown)}
    assert states.keys() >= {"kept", "cut by top_k", "cut by top_p"}
    for row in table(shown):
        assert float(row[6]) == pytest.approx(expected[int(row[1])], abs=1e-4)
        assert (row[2] == "kept") == (int(row[1]) in kept)
    legend = next_.locator(".legendtext").all_text_contents()
    assert {"kept", "cut by top_k", "cut by top_p"} <= set(legend)
    next_.get_by_role("button", name="Reset", exact=True).click()
    expect(next_.locator(".summary")).to_contain_text("300 of 311 tokens")


def test_range_sliders_set_the_fields(shown: Page) -> None:
    next_ = panel(shown, "next")
    top_k = next_.locator("[data-setting=topK]")
    top_k.focus()
    shown.keyboard.press("Home")
    expect(next_.locator("[data-exact=topK]")).to_have_value("1")
    expect(next_.locator(".summary")).to_contain_text("1 of 311 tokens")
    shown.keyboard.press("End")
    expect(top_k).to_have_attribute("aria-valuetext", "off")
    temperature = next_.locator("[data-setting=temperature]")
    temperature.focus()
    shown.keyboard.press("Home")
    expect(temperature).to_have_attribute("aria-valuetext", "0, greedy")
    expect(next_.locator(".summary")).to_contain_text("1 of 311 tokens")


def test_sample_draws_what_the_engine_draws(shown: Page, torch_logits: np.ndarray) -> None:
    next_ = panel(shown, "next")
    next_.locator("[data-exact=temperature]").fill("1.3")
    next_.locator("[data-exact=topK]").fill("50")
    next_.locator("[name=seed]").fill("11")
    next_.get_by_role("button", name="Sample").click()
    expect(shown.locator(".token")).to_have_count(18)
    ready(shown)
    sampler = make_sampler(SamplingParams(temperature=1.3, top_k=50), 11, 300)
    expected = sampler(torch_logits[-1], History([]))
    shown.locator(".token").last.hover()
    expect(shown.get_by_role("tooltip")).to_contain_text(f"id {expected}, position 17")
    expect(next_.locator("[name=seed]")).to_have_value("12")
    expect(shown.locator("#announcer")).to_contain_text("Sampled ")


def test_most_likely_token_is_the_argmax(shown: Page, torch_logits: np.ndarray) -> None:
    select_token(shown, 9)
    panel(shown, "next").get_by_role("button", name="Most likely").click()
    expect(shown.locator(".token")).to_have_count(11)
    shown.locator(".token").last.hover()
    tip = shown.get_by_role("tooltip")
    expect(tip).to_contain_text(f"id {torch_logits[9, :300].argmax()}, position 10")
    expect(tip.locator("[data-name=rank]")).to_have_text(str(1 + (torch_logits[9] > torch_logits[9, :300].max()).sum()))


def test_token_can_be_forced_after_any_position(shown: Page) -> None:
    next_ = panel(shown, "next")
    select_token(shown, 12)
    expect(next_).to_contain_text("drops the 4 after it")
    name = next_.locator(".choices button").nth(2).inner_text()
    next_.locator(".choices button").nth(2).click()
    expect(shown.locator(".token")).to_have_count(14)
    expect(shown.locator("#announcer")).to_have_text(f"Appended {name}.")
    ready(shown)
    row = table(shown)[7]
    next_.locator("tbody tr").nth(7).get_by_role("button").click()
    expect(shown.locator(".token")).to_have_count(15)
    expect(shown.locator("#announcer")).to_have_text(f"Appended {row[0]}.")


def test_click_on_a_bar_appends_its_token(shown: Page) -> None:
    next_ = panel(shown, "next")
    name = next_.locator(".choices button").nth(1).inner_text()
    next_.locator(".figure-plot").scroll_into_view_if_needed()
    box = next_.locator(".bars .point path").nth(1).bounding_box()
    assert box
    shown.mouse.click(box["x"] + 3, box["y"] + box["height"] / 2)
    expect(shown.locator("#announcer")).to_have_text(f"Appended {name}.")
    expect(shown.locator(".token")).to_have_count(18)
    ready(shown)


def test_text_can_be_appended(shown: Page, tiny_checkpoint: Checkpoint) -> None:
    show_text(shown, "The")
    ids = tiny_checkpoint.tokenizer.encode(" lazy cat")
    panel(shown, "next").get_by_label("Text to append").fill(" lazy cat")
    shown.keyboard.press("Enter")
    expect(shown.locator(".token")).to_have_count(1 + len(ids))
    expect(panel(shown, "controls").locator("textarea")).to_have_value("The lazy cat")
    ready(shown)


def test_data_of_the_distribution_is_exported(shown: Page, torch_logits: np.ndarray, tmp_path: Path) -> None:
    panel(shown, "next").locator("[data-exact=topK]").fill("3")
    with shown.expect_download() as download:
        panel(shown, "next").get_by_role("button", name="Data").click()
    download.value.save_as(tmp_path / "next.json")
    data = json.loads((tmp_path / "next.json").read_text())
    assert data["settings"] == {"temperature": 1, "topK": 3, "topP": 1}
    assert data["kept"] == 3
    np.testing.assert_allclose(data["logits"], torch_logits[-1], atol=1e-3)
    assert [one["id"] for one in data["top"][:3]] == np.argsort(-torch_logits[-1])[:3].tolist()
    with shown.expect_download() as download:
        panel(shown, "next").get_by_role("button", name="SVG").click()
    download.value.save_as(tmp_path / "next.svg")
    assert "cut by top_k" in (tmp_path / "next.svg").read_text()


def test_settings_out_of_range_have_no_effect(shown: Page, problems: list[str]) -> None:
    next_ = panel(shown, "next")
    for name, before, wrong in (("topP", "1", "0"), ("topK", "0", "-3"), ("temperature", "1", "-1")):
        field = next_.locator(f"[data-exact={name}]")
        field.fill(wrong)
        expect(next_.locator(".summary")).to_contain_text("300 of 311 tokens")
        field.blur()
        expect(field).to_have_value(before)
    next_.locator("[name=seed]").fill("-1")
    next_.get_by_role("button", name="Sample").click()
    expect(shown.get_by_role("alert")).to_contain_text("seed -1 is not a non-negative integer")
    expect(next_.locator("[name=seed]")).to_have_value("-1")
    expect(shown.locator(".token")).to_have_count(17)
    problems.clear()
