"""A score as rows, as a DataFrame and as HTML."""

import json
import math
import re
import sys
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from max_gpt2.errors import MissingExtraError
from max_gpt2.scoring import Score, ScoreOptions, Scorer, Unit, score_texts
from max_gpt2.scoring.html import _COLOR, _OPACITY

TEXT = "The <b>dog</b>\n\n& naïve 🌍 it"
COLUMNS = ["text", "start", "end", "first_token", "tokens", "counted", "context", "logprob", "surprisal"]


def score(scorer: Scorer, text: str, options: ScoreOptions) -> Score:
    (scored,) = score_texts(scorer, [text], options)
    assert isinstance(scored, Score)
    return scored


def test_rows_have_the_documented_columns(fake_scorer: Scorer) -> None:
    words = score(fake_scorer, TEXT, ScoreOptions(unit="word")).rows()
    assert list(words[0]) == COLUMNS
    assert [row["text"] for row in words] == TEXT.split()
    tokens = score(fake_scorer, TEXT, ScoreOptions(ranks=True, entropy=True, top=2)).rows()
    assert list(tokens[0]) == ["id", *COLUMNS[:3], *COLUMNS[6:], "rank", "entropy", "top"]
    assert [len(row["top"]) for row in tokens] == [2] * len(tokens)
    best = tokens[0]["top"][0]
    assert best["text"] == fake_scorer.tokenizer.token_bytes(best["id"]).decode(errors="backslashreplace")
    assert [row["text"] for row in tokens if row["start"] == 24] == ["\\xf0", "\\x9f", "\\x8c", "\\x8d"]
    assert all(row["surprisal"] == -row["logprob"] for row in [*words, *tokens])


def test_score_is_json(fake_scorer: Scorer) -> None:
    scored = score(fake_scorer, TEXT, ScoreOptions(bos=False, base="10", ranks=True, top=1))
    values = json.loads(json.dumps(scored.to_dict(), allow_nan=False))
    assert values["units"] == scored.rows()
    assert values["units"][0] | {"logprob": None, "surprisal": None, "rank": None, "top": None} == values["units"][0]
    assert (values["bos"], values["base"], values["window"], values["stride"]) == (False, "10", 67, 33)
    assert values["counted"] == len(values["tokens"]) - 1
    assert values["surprisal"] == -values["logprob"]


@pytest.mark.parametrize("unit", ["token", "word"])
@pytest.mark.parametrize("text", [TEXT, ""])
def test_data_frame_has_the_rows(fake_scorer: Scorer, unit: Unit, text: str) -> None:
    scored = score(fake_scorer, text, ScoreOptions(unit=unit, ranks=True, entropy=True, top=2))
    frame = scored.to_pandas()
    assert len(frame) == len(scored.units)
    first = COLUMNS if unit == "word" else ["id", *COLUMNS[:3], *COLUMNS[6:]]
    assert list(frame.columns) == [*first, "rank", "entropy", "top"]
    assert frame["logprob"].tolist() == [one.logprob for one in scored.units]
    assert (frame["start"].dtype, frame["logprob"].dtype, frame["rank"].dtype) == ("int64", "float64", "Int64")


def test_data_frame_has_missing_values_without_bos(fake_scorer: Scorer) -> None:
    frame = score(fake_scorer, TEXT, ScoreOptions(bos=False, ranks=True, entropy=True)).to_pandas()
    assert frame[["logprob", "surprisal", "rank", "entropy"]].isna().sum().tolist() == [1, 1, 1, 1]
    assert frame["surprisal"].dtype == "float64"


def test_missing_pandas_is_named(fake_scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"A DataFrame needs pandas .* pip install pandas"):
        score(fake_scorer, TEXT, ScoreOptions()).to_pandas()


class Page(HTMLParser):
    """The text, the tags and the titles of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags, self.spans = "", list[str](), list[dict[str, str | None]]()
        self.depth = 0
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "span":
            self.spans.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


#: HTML parsers replace NUL and carriage returns.
VISIBLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1)


@settings(max_examples=50)
@given(text=VISIBLE, unit=st.sampled_from(["token", "word", "line"]))
def test_html_shows_the_text_and_nothing_of_its_markup(fake_scorer: Scorer, text: str, unit: Unit) -> None:
    page = Page(score(fake_scorer, text, ScoreOptions(unit=unit, ranks=True, entropy=True))._repr_html_())
    shown, _, _ = page.text.rpartition("surprisal of each")
    assert shown == text
    assert set(page.tags) == {"div", "span"}


def test_html_is_self_contained_and_keeps_line_breaks(fake_scorer: Scorer) -> None:
    page = score(fake_scorer, TEXT, ScoreOptions(bos=False, unit="word", ranks=True))._repr_html_()
    assert "pre-wrap" in page
    assert not re.search(r"http|src=|url\(|@import|<script|<style", page)
    spans = Page(page).spans
    assert Page(page).text.startswith(TEXT)
    assert set(Page(page).tags) == {"div", "span"}
    assert spans[0]["title"] is not None
    assert re.fullmatch(r"surprisal \d+\.\d{3} nats, rank \d+, context \d+", spans[1]["title"] or "")
    token = Page(score(fake_scorer, TEXT, ScoreOptions(bos=False))._repr_html_()).spans[0]
    assert token["title"] == "no probability: the first token without BOS"


def test_parts_of_a_character_are_shown_once(fake_scorer: Scorer) -> None:
    page = Page(score(fake_scorer, "a🌍", ScoreOptions())._repr_html_())
    assert page.text.startswith("a🌍surprisal")
    assert (page.spans[1]["title"] or "").count("surprisal") == 4


def test_color_grows_with_the_surprisal(fake_scorer: Scorer) -> None:
    scored = score(fake_scorer, "the dog was it", ScoreOptions())
    styles = [one["style"] or "" for one in Page(scored._repr_html_()).spans][: len(scored.units)]
    opacity = [float(re.search(r"([\d.]+)\);", style)[1]) for style in styles]  # type: ignore[index]
    order = sorted(range(len(opacity)), key=lambda at: scored.units[at].surprisal)
    assert [opacity[at] for at in order] == sorted(opacity)
    assert opacity[0] == pytest.approx(min(scored.units[0].surprisal / math.log(2) / 16, 1) * _OPACITY, abs=1e-3)


@pytest.mark.parametrize(("page", "ink"), [(1.0, 0.0), (0.0, 1.0)])
def test_colored_text_is_readable_on_a_light_and_a_dark_page(page: float, ink: float) -> None:
    """WCAG 2: a contrast of 4.5 for text."""
    channels = [_OPACITY * int(one) / 255 + (1 - _OPACITY) * page for one in _COLOR.split(",")]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    lighter, darker = max(luminance, ink), min(luminance, ink)
    assert (lighter + 0.05) / (darker + 0.05) > 4.5


def test_html_of_a_long_text_is_shown_in_linear_size(fake_scorer: Scorer) -> None:
    scored = score(fake_scorer, "the dog " * 4000, ScoreOptions(unit="word"))
    page = Page(scored._repr_html_())
    assert page.text.startswith(scored.text)
    assert len(page.spans) == 5001


def test_repr_is_short(fake_scorer: Scorer) -> None:
    shown = repr(score(fake_scorer, "the dog " * 10, ScoreOptions(base="2")))
    assert re.fullmatch(r"Score\('the dog .{32}…', tokens=\d+, surprisal=[\d.]+ bits, perplexity=[\d.]+\)", shown)
