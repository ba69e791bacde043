"""Run the Python blocks of pages in one process, which imports MAX once; each page has its own namespace.

`python -m tests.book.run_pages book/steps/step_02.md ...` prints the output or traceback of each block as JSON.
"""

import contextlib
import io
import json
import sys
import traceback

from tests.book.pages import DOCS, blocks


def run_page(name: str) -> list[dict[str, str]]:
    """Run the blocks of a page up to the first failure; return line, output and traceback of each."""
    names: dict[str, object] = {"__name__": "__main__"}
    results = []
    for block in blocks((DOCS / name).read_text()):
        if block.language != "python":
            continue
        out, error = io.StringIO(), ""
        with contextlib.redirect_stdout(out):
            try:
                exec(compile(block.text, f"{name}, line {block.line}", "exec"), names)
            except Exception:
                error = traceback.format_exc()
        results.append({"line": str(block.line), "out": out.getvalue(), "error": error})
        if error:
            break
    return results


def main() -> None:
    """Run the pages named on the command line."""
    print(json.dumps({name: run_page(name) for name in sys.argv[1:]}))


if __name__ == "__main__":
    main()
