"""Evaluate JavaScript in headless Chromium, where it is installed."""

import html
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# The options of the second line stop Chromium from checking for updates, which needs a network.
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--enable-logging=stderr"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--virtual-time-budget=5000"),
)


def browser_program() -> str:
    """Return the path of a browser; skip the test if none is installed."""
    program = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(_NAMES)} is installed")
    return program


def evaluate_in_browser(page: str, width: int, expression: str, folder: Path) -> Any:
    """Return the value of a JavaScript expression in a page shown in a frame of `width` pixels.

    A message on the console fails the test.
    """
    program = browser_program()
    # Windows of Chromium are at least 500 pixels wide; a frame can be as narrow as a phone.
    frame = f'<iframe id="frame" width="{width}" height="800" srcdoc="{html.escape(page)}"></iframe>'
    script = (
        'document.getElementById("frame").onload = (event) => {'
        "  const document = event.target.contentDocument, window = event.target.contentWindow;"
        f"  event.target.ownerDocument.title = JSON.stringify({expression}); }}"
    )
    wrapper = folder / "wrapper.html"
    wrapper.write_text(f"<!doctype html><meta charset=utf-8><title>nothing</title>{frame}<script>{script}</script>")
    command = [program, *_OPTIONS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", wrapper.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr, done.stderr
    title = done.stdout.split("<title>")[1].split("</title>")[0]
    return json.loads(html.unescape(title))
