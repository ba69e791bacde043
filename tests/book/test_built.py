"""The built site: all pages are in the navigation, all links resolve, and nothing is loaded from other hosts."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.book.pages import PAGES, names, navigation, site_names
from tutorial.exercises import exercise
from tutorial.step_files import STEPS


class Page(HTMLParser):
    """The links, loaded resources, images and anchors of an HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors, self.links, self.loaded, self.images = set[str](), list[str](), list[str](), list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(given["href"])
        if "src" in given:
            self.loaded.append(given["src"])
        if tag == "img":
            self.images.append(given["alt"])


@pytest.fixture(scope="module")
def built(site: Path) -> dict[Path, Page]:
    """All pages by path."""
    return {path: Page(path.read_text()) for path in site.rglob("*.html")}


def broken(site: Path, built: dict[Path, Page]) -> list[str]:
    """Return every broken link, script, style and image, with its page."""
    found = []
    for path, page in built.items():
        if path.name == "404.html":  # its links are absolute, since it is served for any path
            continue
        for address in page.links + page.loaded:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            known = target in built and (not parts.fragment or unquote(parts.fragment) in built[target].anchors)
            if not (known or (target.is_file() and target not in built)):
                found.append(f"{path.relative_to(site)}: {address}")
    return found


def test_navigation_has_every_page_once() -> None:
    assert sorted(navigation()) == site_names()


def test_step_titles_match_the_exercises() -> None:
    for number in range(1, STEPS + 1):
        title = (PAGES / "steps" / f"step_{number:02}.md").read_text().splitlines()[0]
        assert title == f"# Step {number}: {exercise(number).title}"


def test_no_link_is_broken(site: Path, built: dict[Path, Page]) -> None:
    assert len(built) >= len(site_names())
    assert not broken(site, built)


def test_broken_links_are_detected(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<p id="here"><a href="#here"></a><a href="b.html#gone"></a><img src="x.svg" alt="">'
    )
    (tmp_path / "b.html").write_text('<a href="a.html#here"></a><a href="c.html"></a><a href="https://max.test/x"></a>')
    built = {path: Page(path.read_text()) for path in tmp_path.rglob("*.html")}
    assert sorted(broken(tmp_path, built)) == ["a.html: b.html#gone", "a.html: x.svg", "b.html: c.html"]


def test_no_resource_is_loaded_from_other_hosts(built: dict[Path, Page]) -> None:
    for path, page in built.items():
        away = [address for address in page.loaded if urlsplit(address).netloc]
        assert not away, path


def test_images_have_alt_text(built: dict[Path, Page]) -> None:
    images = [alt for page in built.values() for alt in page.images]
    assert images
    assert all(len(alt) > 20 for alt in images if alt != "logo")


def test_book_uses_every_figure() -> None:
    text = "".join((PAGES / name).read_text() for name in names())
    drawn = {path.stem.rsplit("-", 1)[0] for path in (PAGES / "figures").glob("*.svg")}
    assert {name for name in drawn if f'figure("{name}"' in text} == drawn


def test_all_formulas_are_converted(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text()
        assert 'class="arithmatex"' not in text, path
        assert "merror" not in text, path
