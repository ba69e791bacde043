"""The x-ray page of two tiny models, served on a free port, in headless Chromium."""

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
import torch
import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright
from transformers import GPT2LMHeadModel

from fixtures.checkpoints import write_checkpoint
from max_gpt2.checkpoint import load_checkpoint
from max_gpt2.inspect import Tracer
from max_gpt2.inspect.xray.analysis import Analysis
from max_gpt2.inspect.xray.app import Start, make_app
from tests.support.browser import browser_program
from tests.support.xray import ready

#: The text that the page shows first: 17 tokens of the tiny tokenizer, one of them a newline.
TEXT = "The quick brown fox\njumps over the lazy dog."
#: Verdicts as the command line finds them.
PASSED = {"passed": True, "text": "Verified against PyTorch on 2026-11-29."}
UNKNOWN = {"passed": None, "text": "Not verified yet. Run: max-gpt2 verify --model other"}


@pytest.fixture(scope="session")
def other_original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the sizes of the tiny one, with half its weights: it has the same graphs."""
    folder = write_checkpoint(tmp_path_factory.mktemp("xray") / "other")
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def other_tracer(tracer: Tracer, other_original: Path) -> Tracer:
    weights = load_checkpoint(other_original).state_dict
    return replace(tracer, stages=replace(tracer.stages, weights=weights))


@pytest.fixture(scope="session")
def xray(tracer: Tracer, other_tracer: Tracer) -> Iterator[str]:
    """The address of a page with the models "tiny" and "other"."""
    models = [Analysis("tiny", tracer, PASSED), Analysis("other", other_tracer, UNKNOWN)]
    config = uvicorn.Config(make_app(models, Start(TEXT)), log_config=None, ws="none")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # One per module: Playwright's event loop would be in the way of tests that run one of their own.
    program = browser_program()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def problems() -> list[str]:
    """Messages on the console, failed requests and requests to other hosts; a test that expects some clears them."""
    return []


@pytest.fixture
def tab(browser: Browser, problems: list[str]) -> Iterator[Page]:
    """An empty page of 1,440 pixels; the test fails if there are `problems` at its end."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    tab = context.new_page()
    tab.on("console", lambda one: problems.append(one.text) if one.type in ("error", "warning") else None)
    tab.on("pageerror", lambda one: problems.append(str(one)))
    # What the page cancels, because its state has changed, has failed as well.
    tab.on("requestfailed", lambda one: None if one.failure == "net::ERR_ABORTED" else problems.append(one.url))
    local = ("http://127.0.0.1:", "data:", "blob:", "file:")
    tab.on("request", lambda one: None if one.url.startswith(local) else problems.append(f"to: {one.url}"))
    yield tab
    context.close()
    assert not problems


@pytest.fixture
def shown(tab: Page, xray: str) -> Page:
    """The page, once it shows its first text."""
    tab.goto(xray)
    ready(tab)
    return tab
