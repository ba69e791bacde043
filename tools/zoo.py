"""Write every checkpoint of the zoo, compare MAX with its original PyTorch model, and write docs/zoo.md."""

import argparse
import datetime
import os
import platform
import re
import sys
import tempfile
from pathlib import Path

from fixtures.zoo import ZOO, Fixture, Group
from fixtures.zoo.fixture import LAST, input_ids, last_logits
from max_gpt2.model.compile_cache import load_or_compile
from max_gpt2.verify import compare_logits, quiet_transformers

PAGE = Path(__file__).parent.parent / "docs" / "zoo.md"
INTRODUCTION = """# The checkpoint zoo

`make zoo` creates a tiny checkpoint of every known kind, using transformers, PyTorch and gguf. It
loads the checkpoint and compares the logits of MAX with those of the original PyTorch model:
transformers' GPT-2, or the model definitions of nanoGPT and llm.c.

- *equal*: the largest difference between the logits of the last tokens, up to 100, of a sequence
  that fills the context.
- *refused*: the error message, with FOLDER for the checkpoint's folder.

`make test` loads the same checkpoints, compares every weight bitwise, and computes the logits in
PyTorch instead of MAX, which would have to compile each config for a minute.
"""


def outcome(fixture: Fixture) -> str:
    """Build one checkpoint, load it, and return the outcome as a table cell."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, message = fixture.build(folder), fixture.error_message(folder)
        if model is None:
            return refused(message) if message else "NOT REFUSED"
        if message:
            return f"NOT LOADED: {message}"
        checkpoint = fixture.load(folder)
        ids = input_ids(checkpoint)
        found = load_or_compile(checkpoint.config, checkpoint.state_dict).logits(ids, first=max(0, ids.shape[1] - LAST))
        difference = compare_logits(found, last_logits(model, ids))
        return f"{'equal' if difference.equal else 'NOT EQUAL'}: {difference.max_abs_diff:.1e}"


def refused(text: str) -> str:
    """Return the table cell of an error message, formatted as code even if it contains backticks."""
    return f"refused: `` {text} ``" if "`" in text else f"refused: `{text}`"


def write_page(outcomes: dict[str, str]) -> str:
    """Return the page, with a table for each group of fixtures."""
    parts = [INTRODUCTION]
    for group in Group:
        fixtures = [one for one in ZOO.values() if one.group is group]
        lines = [table_line(one.row, outcomes[one.row]) for one in fixtures]
        parts.append("\n".join([f"## {group.value}\n", "| checkpoint | outcome |", "|---|---|", *lines]) + "\n")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    parts.append(
        f"Measured on {datetime.datetime.now(tz=datetime.UTC).date()}: {machine}, MAX 26.7.0, PyTorch 2.13.0.\n"
    )
    return "\n".join(parts)


def table_line(row: str, text: str) -> str:
    """Return a line of a table."""
    return f"| {row} | {text.replace('|', '&#124;')} |"


def read_rows(page: str) -> dict[str, str]:
    """Return the outcomes on a page by row."""
    rows = re.findall(r"^\| (.*?) \| (.*) \|$", page, re.MULTILINE)
    return {row: text.replace("&#124;", "|") for row, text in rows if row != "checkpoint"}


def with_current_messages(page: str) -> str:
    """Return the page with the rows of rejected checkpoints updated to the current error messages."""
    rows = read_rows(page)
    for row, text in rows.items():
        if text.startswith("refused: "):
            rows[row] = outcome(ZOO[row])
            page = page.replace(table_line(row, text), table_line(row, rows[row]))
    return page


def with_new_rows(page: str) -> str:
    """Return the page with the rows of fixtures that it lacks, without those that no longer exist, and its date."""
    known = read_rows(page)
    outcomes = {row: known.get(row) or outcome(fixture) for row, fixture in ZOO.items()}
    lines = write_page(outcomes).splitlines()
    return "\n".join([*lines[:-1], page.splitlines()[-1]]) + "\n"


def main() -> None:
    """Print the outcome of the selected rows; write the page if all are selected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help="substrings of row names; default: all rows")
    parser.add_argument("--messages", action="store_true", help="only update the error messages (seconds, no MAX)")
    parser.add_argument("--new", action="store_true", help="only add the rows that docs/zoo.md lacks")
    arguments = parser.parse_args()
    quiet_transformers()
    if arguments.new:
        PAGE.write_text(with_new_rows(PAGE.read_text()))
        return
    if arguments.messages:
        PAGE.write_text(with_current_messages(PAGE.read_text()))
        return
    patterns: list[str] = arguments.rows
    chosen = [one for one in ZOO.values() if not patterns or any(pattern in one.row for pattern in patterns)]
    outcomes = {}
    for fixture in chosen:
        outcomes[fixture.row] = outcome(fixture)
        print(f"{fixture.row}: {outcomes[fixture.row]}", flush=True)
    if len(chosen) == len(ZOO):
        PAGE.write_text(write_page(outcomes))
    sys.exit(0 if not any(text.startswith("NOT") for text in outcomes.values()) else 1)


if __name__ == "__main__":
    main()
