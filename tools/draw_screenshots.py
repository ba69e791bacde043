"""Take the pictures of the x-ray page in the docs, with the demo checkpoint: `make screenshots` (needs Chromium)."""

import io
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Literal

import uvicorn
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from max_gpt2.generation import open_model
from max_gpt2.inspect.xray.app import Start, make_app
from max_gpt2.inspect.xray.server import load_analysis

FOLDER = Path(__file__).parent.parent / "docs" / "figures"
TEXT = "She was not sorry to be in the room with Mr. Darcy, and she was not afraid to speak"
#: The head whose attention is shown, and which is ablated.
LAYER, HEAD = 4, 2
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@contextmanager
def served() -> Iterator[str]:
    """Serve the page of the demo checkpoint; yield its address."""
    app = make_app([load_analysis("demo", open_model("demo"))], Start(TEXT, bos=True))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join()


def take(page: Page, name: str, *, whole: bool = False) -> None:
    """Write a picture of the visible part, or of the whole page, with 256 colors."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)
    image = Image.open(io.BytesIO(page.screenshot(full_page=whole))).convert("RGB")
    path = FOLDER / f"{name}.png"
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


def opened(browser: Browser, url: str, width: int, theme: Literal["light", "dark"]) -> Page:
    """Return the page, with the panels that are on the screen."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    page.goto(url)
    page.locator("[data-panel=tokens] .token").last.wait_for()
    page.wait_for_load_state("networkidle")
    return page


def desktop(browser: Browser, url: str, theme: Literal["light", "dark"]) -> None:
    """Take the top of the page, a head in detail, and the page with the head ablated."""
    page = opened(browser, url, 1280, theme)
    take(page, f"xray-top-{theme}")
    picture = page.get_by_role("button", name=f"Layer {LAYER}, head {HEAD}", exact=False).first
    picture.scroll_into_view_if_needed()
    page.wait_for_load_state("networkidle")
    picture.hover()
    page.wait_for_timeout(1000)
    take(page, f"xray-attention-{theme}")
    page.close()


def main() -> None:
    """Take all pictures."""
    program = next((path for name in _PROGRAMS if (path := shutil.which(name))), None)
    if program is None:
        sys.exit("No browser: install Chromium.")
    FOLDER.mkdir(exist_ok=True)
    with served() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for theme in ("light", "dark"):
            desktop(browser, url, theme)
        page = opened(browser, url, 390, "light")
        take(page, "xray-phone")
        browser.close()


if __name__ == "__main__":
    main()
