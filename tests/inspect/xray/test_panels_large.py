"""The panels for the sizes of gpt2-xl and a full context; the answers are made up, in the browser's network."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from max_gpt2.inspect.xray.state import encode_array
from tests.support.figures import data, figure, number, settled, table, tooltip
from tests.support.xray import panel, select_token

pytestmark = [pytest.mark.slow, pytest.mark.browser]

LAYERS, HEADS, SEQ, VOCAB, SIDE = 48, 25, 1024, 5000, 64


def pattern() -> np.ndarray:
    """Return an attention pattern: each token attends to those before it, the nearest most."""
    distance = np.arange(SEQ)[:, None] - np.arange(SEQ)
    weights = np.where(distance >= 0, 1 / (1.0 + np.abs(distance)), 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


class FakeServer:
    """Answers the page as a model of the size of gpt2-xl would; notes what was asked."""

    def __init__(self, page: dict[str, Any]) -> None:
        self.page, self.asked = page, list[tuple[str, dict[str, Any]]]()
        self.rng = np.random.default_rng(22)
        self.pattern = pattern()
        self.encoded_pattern = encode_array(self.pattern)
        sizes = {"n_layer": LAYERS, "n_head": HEADS, "n_embd": 1600, "n_positions": SEQ, "vocab_size": VOCAB}
        self.page["models"] = [{**page["models"][0], **sizes}]

    def __call__(self, route: Route) -> None:
        path = route.request.url.rpartition("/")[2]
        body = json.loads(route.request.post_data or "{}")
        self.asked.append((path, body))
        answer = getattr(self, path)(body) if path != "page" else self.page
        route.fulfill(json={name: self.encoded(one) for name, one in answer.items()})

    def encoded(self, value: Any) -> Any:
        """Return a value for JSON."""
        if value is self.pattern:
            return self.encoded_pattern
        return encode_array(value) if isinstance(value, np.ndarray) else value

    def layers(self) -> list[int]:
        """Return the layers whose attention was asked for."""
        return [body["layer"] for path, body in self.asked if path == "attention"]

    def random(self, *shape: int) -> np.ndarray:
        return self.rng.random(shape, np.float32)

    def ids(self, *shape: int) -> np.ndarray:
        return self.rng.integers(0, VOCAB, shape, np.int32)

    def texts(self) -> dict[str, str]:
        return {str(id_): f" t{id_}" for id_ in range(VOCAB)}

    def encode(self, _body: dict[str, Any]) -> dict[str, Any]:
        return {"ids": list(range(SEQ))}

    def view(self, body: dict[str, Any]) -> dict[str, Any]:
        return {
            "tokens": [{"id": one, "text": f" t{one}"} for one in body["ids"]],
            "surprisal": 10 * self.random(SEQ),
            "rank": self.ids(SEQ) + 1,
            "entropy": 5 * self.random(SEQ),
            "top_ids": self.ids(SEQ, 5),
            "top_probabilities": self.random(SEQ, 5) / 5,
            "texts": self.texts(),
            "next_id": 7,
        }

    def next(self, _body: dict[str, Any]) -> dict[str, Any]:
        logits = self.random(VOCAB)
        return {"logits": logits, "top": np.argsort(-logits)[:200].astype(np.int32), "texts": self.texts()}

    def lens(self, body: dict[str, Any]) -> dict[str, Any]:
        shape = LAYERS + 1, body.get("count") or SEQ
        arrays = {"ids": self.ids(*shape), "targets": self.ids(shape[1]), "ranks": self.ids(*shape) + 1}
        return {
            **arrays,
            "probabilities": self.random(*shape),
            "target_probabilities": self.random(*shape),
            "texts": self.texts(),
        }

    def norms(self, _body: dict[str, Any]) -> dict[str, Any]:
        return {"norms": 1 + 100 * self.random(LAYERS + 1, SEQ)}

    def attention(self, body: dict[str, Any]) -> dict[str, Any]:
        assert body["size"] == SIDE
        return {"thumbnails": self.rng.integers(0, 256, (HEADS, SIDE, SIDE), np.uint8)}

    def head(self, _body: dict[str, Any]) -> dict[str, Any]:
        return {"pattern": self.pattern}

    def attribution(self, body: dict[str, Any]) -> dict[str, Any]:
        heads, mlps = self.random(LAYERS, HEADS), self.random(LAYERS)
        parts = {"heads": heads, "mlps": mlps, "biases": self.random(LAYERS), "embeddings": 1.0, "ln_f": 0.0}
        return {**parts, "total": 1.0, "texts": {str(body["token"]): " t"}}


class Work:
    """Measures how long the page computes: the CPU time of its thread, since the wall time is that of all processes."""

    def __init__(self, tab: Page) -> None:
        self.session = tab.context.new_cdp_session(tab)
        self.session.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.start = self.now()

    def now(self) -> float:
        metrics = self.session.send("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return self.now() - self.start


def point(tab: Page, head: int) -> Locator:
    """Point at a head of layer 0 until its figure shows it."""
    attention = panel(tab, "attention")
    found = attention.locator("figure")
    for _ in range(20):  # panels above it grow when they are drawn, and push it away from the pointer
        tab.mouse.move(0, 0)
        attention.locator(f"button[data-layer='0'][data-head='{head}']").hover()
        tab.wait_for_timeout(300)
        if found.locator("figcaption").inner_text() == f"Layer 0, head {head}":
            break
    settled(found)
    return found


@pytest.fixture
def server(tab: Page, xray: str) -> Iterator[FakeServer]:
    """A page of the size of gpt2-xl with 1,024 tokens."""
    server = FakeServer(tab.request.get(f"{xray}/api/page").json())
    tab.route("**/api/*", server)
    tab.goto(xray)
    expect(tab.locator(".token")).to_have_count(SEQ)
    expect(tab.locator(".tokens[aria-busy]")).to_have_count(0)
    yield server
    tab.goto("about:blank")  # stops all requests


def test_only_rows_near_the_screen_are_asked_for(tab: Page, server: FakeServer) -> None:
    grid = panel(tab, "attention").locator(".attention-grid")
    rows = grid.locator(".attention-row")

    def picture(layer: int) -> Locator:
        return rows.nth(layer).locator("canvas").first

    expect(rows).to_have_count(LAYERS)
    expect(grid.locator("canvas")).to_have_count(LAYERS * HEADS)
    tab.wait_for_timeout(500)
    assert len(server.layers()) <= 8
    rows.nth(24).evaluate("(one) => one.scrollIntoView()")
    expect(rows.nth(24).locator("[aria-busy]")).to_have_count(0)
    expect(picture(24)).to_have_js_property("width", SIDE, timeout=20_000)
    tab.wait_for_timeout(500)
    before = len(server.layers())
    asked = set(server.layers())
    assert 24 in asked
    assert not asked & set(range(36, LAYERS))
    assert not asked & set(range(12, 20)), "rows that were passed without a stop"
    assert len(server.layers()) == len(asked), "a row was asked for twice"
    # The other end: what is far away is dropped, and asked for again when it returns.
    rows.nth(LAYERS - 1).evaluate("(one) => one.scrollIntoView()")
    expect(picture(LAYERS - 1)).to_have_js_property("width", SIDE, timeout=20_000)
    expect(picture(24)).to_have_js_property("width", 0, timeout=20_000)
    rows.nth(24).evaluate("(one) => one.scrollIntoView()")
    expect(picture(24)).to_have_js_property("width", SIDE, timeout=20_000)
    assert server.layers()[before:].count(24) == 1


def test_page_scrolls_without_long_pauses(tab: Page, server: FakeServer) -> None:
    settled(figure(panel(tab, "attribution"), 1))
    panel(tab, "attention").scroll_into_view_if_needed()
    tab.wait_for_timeout(1000)
    work = Work(tab)
    tab.mouse.move(700, 450)
    for _ in range(20):
        tab.mouse.wheel(0, 250)
        tab.wait_for_timeout(100)
    assert len(set(server.layers())) > 20
    assert work.seconds() < 6


def test_head_with_a_full_context_is_drawn_exactly_and_quickly(tab: Page, server: FakeServer) -> None:
    settled(figure(panel(tab, "attribution"), 1))
    panel(tab, "attention").scroll_into_view_if_needed()
    found = point(tab, 3)
    work = Work(tab)
    for head in (4, 5, 6):
        point(tab, head)
    assert work.seconds() < 6
    lines = tooltip(tab, found, 300, 700)
    query, key = (int(line.split()[1].rstrip(":")) for line in lines[:2])
    assert number(lines[2]) == pytest.approx(server.pattern[query, key])
    tab.mouse.move(0, 0)
    select_token(tab, SEQ - 1)
    rows = table(found)
    assert len(rows) == 1000
    expect(found.locator("caption")).to_have_text('1,000 of 1,024 rows are shown. "Data" saves all of them.')
    np.testing.assert_allclose([float(row[2]) for row in rows], server.pattern[-1, ::-1][:1000], rtol=1e-5)
    assert len(data(tab, found)["pattern"]) == SEQ


def test_lens_asks_for_the_positions_that_it_shows(tab: Page, server: FakeServer) -> None:
    lens = figure(panel(tab, "lens"))
    body = next(body for path, body in server.asked if path == "lens")
    assert (body["first"] + body["count"], body["count"]) == (SEQ, 800 // (LAYERS + 1))
    columns = lens.locator(".figure-plot").evaluate("(plot) => plot.data[0].z[0].length")
    assert columns == body["count"]
    settled(figure(panel(tab, "norms"), 1))
    settled(figure(panel(tab, "attribution"), 0))
    assert len(table(figure(panel(tab, "attribution"), 0))) == 1000
