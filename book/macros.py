"""The macros of the book, such as `{{ code("main.py", "load") }}`; each is a block on a line of its own."""

import re
import sys
from pathlib import Path
from typing import Any

# MkDocs runs this file on its own, from any working directory.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from book.excerpts import BookError, between, excerpt, text_block
from book.page_changes import CHANGES, DEMO_CHANGES, table
from tutorial.exercises import exercise
from tutorial.step_files import NUMBERS

PAGES = Path(__file__).resolve().parent.parent / "docs" / "book"
#: The first words of each transcript in README.md.
TRANSCRIPTS = {"demo": "Checking the weights"}
LANGUAGES = {".py": "python", ".mojo": "mojo"}
_MACRO = re.compile(r"^([ \t]*)\{\{\s*(\w+\(.*\))\s*\}\}[ \t]*$", re.MULTILINE)


def code(path: str, name: str | None = None) -> str:
    """Return a file, or the definition of a name in it, as a code block with the path as its title."""
    return fenced(excerpt(path, name), LANGUAGES.get(Path(path).suffix, "text"), f' title="{path}"')


def hints(number: int) -> str:
    """Return the hints of a step, each in a collapsed block."""
    parts = (f'??? tip "Hint {index}"\n\n    {plain(hint)}' for index, hint in enumerate(_exercise(number).hints, 1))
    return "\n\n".join(parts)


def mistake(number: int, key: str) -> str:
    """Return the diagnosis of a known mistake as a quotation."""
    known = _exercise(number).mistakes
    if key not in known:
        raise BookError(f"Step {number} has no mistake {key!r}. It has {', '.join(map(repr, known))}.")
    return "> " + plain(known[key]).replace("\n", "\n> ")


def measured(name: str) -> str:
    """Return the measurements of a page of docs/, such as `log/performance`."""
    return between(f"docs/{name}.md", "<!-- measured -->", "<!-- /measured -->")


def page_changes(demo: bool = False) -> str:
    """Return the table of the changes that the original page needs, for every checkpoint or for the demo."""
    return table(DEMO_CHANGES if demo else CHANGES)


def transcript(name: str) -> str:
    """Return the output of a command as shown in README.md."""
    if name not in TRANSCRIPTS:
        raise BookError(f"There is no transcript {name!r}. Known transcripts: {', '.join(map(repr, TRANSCRIPTS))}.")
    return fenced(text_block("README.md", TRANSCRIPTS[name]), "text")


def figure(name: str, alt: str, caption: str, page: str) -> str:
    """Return a figure in a light and a dark version for a page, given by its path relative to docs/book."""
    up = "../" * page.count("/")
    images = []
    for shade in ("light", "dark"):
        drawing = f"figures/{name}-{shade}.svg"
        if not (PAGES / drawing).is_file():
            raise BookError(f"There is no figure {drawing}. `make figures` draws them.")
        images.append(f"![{plain(alt)}]({up}{drawing}#only-{shade}){{ loading=lazy }}")
    return f'<figure markdown="span">\n{"".join(images)}\n<figcaption markdown="span">{caption}</figcaption>\n</figure>'


def fenced(text: str, language: str, options: str = "") -> str:
    """Return a code block, with a fence longer than any in the text."""
    longest = max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}{options}\n{text}\n{fence}"


def plain(text: str) -> str:
    """Return terminal text as Markdown that renders to the same characters; `code` stays code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_\[\]<>$^~])", r"\\\1", part) for part in parts)


def indented(page: str) -> str:
    """Indent the output of each macro as far as the macro itself, so that it works inside a collapsed block."""
    return _MACRO.sub(lambda match: f"{match[1]}{{{{ {match[2]} | indent({len(match[1])}) }}}}", page)


def _exercise(number: int) -> Any:
    if number not in NUMBERS:
        raise BookError(f"There is no step {number}.")
    return exercise(number)


def define_env(env: Any) -> None:
    """Register the macros; called by the plugin."""
    for macro in (code, hints, mistake, measured, page_changes, transcript):
        env.macro(macro)
    env.macro(
        lambda name, alt, caption: figure(name, alt, caption, env.page.file.src_uri.removeprefix("book/")), "figure"
    )


def on_pre_page_macros(env: Any) -> None:
    """Prepare a page before its macros run; called by the plugin."""
    env.markdown = indented(env.markdown)
