"""The macros of the pages, `{{ code("main.py", "load") }}` and others: each is a block, on a line of its own."""

import re
import sys
from pathlib import Path
from typing import Any

# MkDocs runs this file by itself, wherever it was started.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from book.errors import BookError
from book.excerpts import between, excerpt, text_block
from tutorial.exercises import exercise
from tutorial.step_files import STEPS

PAGES = Path(__file__).resolve().parent.parent / "docs" / "book"
#: The transcripts of README.md, by the words that each begins with.
TRANSCRIPTS = {"demo": "Checking the weights"}
LANGUAGES = {".py": "python", ".mojo": "mojo"}
_MACRO = re.compile(r"^([ \t]*)\{\{\s*(\w+\(.*\))\s*\}\}[ \t]*$", re.MULTILINE)


def code(path: str, name: str | None = None) -> str:
    """Return a file, or what has a name in it, as a block of code under the file's name."""
    return fenced(excerpt(path, name), LANGUAGES.get(Path(path).suffix, "text"), f' title="{path}"')


def hints(number: int) -> str:
    """Return the hints of a step, each folded."""
    parts = (f'??? tip "Hint {place}"\n\n    {plain(one)}' for place, one in enumerate(_exercise(number).hints, 1))
    return "\n\n".join(parts)


def mistake(number: int, key: str) -> str:
    """Return what a check says of a known mistake, as a quotation."""
    known = _exercise(number).mistakes
    if key not in known:
        raise BookError(f"Step {number} knows no mistake {key!r}. It knows {', '.join(map(repr, known))}.")
    return "> " + plain(known[key]).replace("\n", "\n> ")


def measured(name: str) -> str:
    """Return the measured tables of a page of docs/: `log/performance`."""
    return between(f"docs/{name}.md", "<!-- measured -->", "<!-- /measured -->")


def transcript(name: str) -> str:
    """Return what a command printed, as README.md has it."""
    if name not in TRANSCRIPTS:
        raise BookError(f"There is no transcript {name!r}. There is {', '.join(map(repr, TRANSCRIPTS))}.")
    return fenced(text_block("README.md", TRANSCRIPTS[name]), "text")


def figure(name: str, alt: str, caption: str, page: str) -> str:
    """Return a figure in its light and its dark drawing, for a page that is named as its file in docs/book/."""
    up = "../" * page.count("/")
    images = []
    for shade in ("light", "dark"):
        drawing = f"figures/{name}-{shade}.svg"
        if not (PAGES / drawing).is_file():
            raise BookError(f"There is no figure {drawing}. `make figures` draws them.")
        images.append(f"![{plain(alt)}]({up}{drawing}#only-{shade}){{ loading=lazy }}")
    return f'<figure markdown="span">\n{"".join(images)}\n<figcaption markdown="span">{caption}</figcaption>\n</figure>'


def fenced(text: str, language: str, options: str = "") -> str:
    """Return a block of code, in a fence longer than any in the text."""
    longest = max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}{options}\n{text}\n{fence}"


def plain(text: str) -> str:
    """Return a sentence of the terminal as Markdown that shows the same characters; `code` stays code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_\[\]<>$^~])", r"\\\1", part) for part in parts)


def indented(page: str) -> str:
    """Let every macro indent its lines as far as it stands itself, so that it can be used within a folded block."""
    return _MACRO.sub(lambda one: f"{one[1]}{{{{ {one[2]} | indent({len(one[1])}) }}}}", page)


def _exercise(number: int) -> Any:
    if not 1 <= number <= STEPS:
        raise BookError(f"There is no step {number}.")
    return exercise(number)


def define_env(env: Any) -> None:
    """Hand the macros to the plugin."""
    for macro in (code, hints, mistake, measured, transcript):
        env.macro(macro)
    env.macro(
        lambda name, alt, caption: figure(name, alt, caption, env.page.file.src_uri.removeprefix("book/")), "figure"
    )


def on_pre_page_macros(env: Any) -> None:
    """Look at a page before its macros are run."""
    env.markdown = indented(env.markdown)
