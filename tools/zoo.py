"""Build every checkpoint of the zoo, compare MAX with the model that it was made from, and write docs/zoo.md."""

import argparse
import datetime
import os
import platform
import re
import sys
import tempfile
from pathlib import Path

from max_gpt2.model.compile import compile_model
from max_gpt2.verify import compare_logits, quiet_transformers
from tests.zoo import ZOO, Fixture, Group
from tests.zoo.fixture import LAST, answer, question

PAGE = Path(__file__).parent.parent / "docs" / "zoo.md"
INTRODUCTION = """# The checkpoint zoo

`make zoo` creates a tiny checkpoint of every kind that is known to occur, using transformers,
PyTorch and gguf, loads it, and compares the logits of MAX with those of the original PyTorch
model: transformers' GPT-2, or the model definitions of nanoGPT and llm.c.

- *equal*: the largest difference between the logits of up to 100 last tokens of a sequence that
  fills the context.
- *refused*: the error message, with FOLDER for the checkpoint's folder.

`make test` loads the same checkpoints, compares every weight bitwise, and computes the logits in
PyTorch instead of MAX, which would compile for a minute for each kind of config.
"""


def outcome(fixture: Fixture) -> str:
    """Build one, and return what became of it, as the table has it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, refusal = fixture.build(folder), fixture.refusal(folder)
        if model is None:
            return refused(refusal) if refusal else "NOT REFUSED"
        if refusal:
            return f"NOT LOADED: {refusal}"
        checkpoint = fixture.load(folder)
        ids = question(checkpoint)
        found = compile_model(checkpoint.config, checkpoint.state_dict).logits(ids, first=max(0, ids.shape[1] - LAST))
        difference = compare_logits(found, answer(model, ids))
        return f"{'equal' if difference.equal else 'NOT EQUAL'}: {difference.max_abs_diff:.1e}"


def refused(text: str) -> str:
    """Return a refusal as the table has it: as code, also when there is code in it."""
    return f"refused: `` {text} ``" if "`" in text else f"refused: `{text}`"


def write_page(outcomes: dict[str, str]) -> str:
    """Return the page: a table for each group of fixtures."""
    parts = [INTRODUCTION]
    for group in Group:
        fixtures = [one for one in ZOO.values() if one.group is group]
        lines = [f"| {one.row} | {outcomes[one.row].replace('|', '&#124;')} |" for one in fixtures]
        parts.append("\n".join([f"## {group.value}\n", "| checkpoint | outcome |", "|---|---|", *lines]) + "\n")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    parts.append(
        f"Measured on {datetime.datetime.now(tz=datetime.UTC).date()}: {machine}, MAX 26.7.0, PyTorch 2.13.0.\n"
    )
    return "\n".join(parts)


def read_rows(page: str) -> dict[str, str]:
    """Return the outcomes on a page, by row."""
    rows = re.findall(r"^\| (.*?) \| (.*) \|$", page, re.MULTILINE)
    return {row: text.replace("&#124;", "|") for row, text in rows if row != "checkpoint"}


def main() -> None:
    """Go through the rows that are asked for, print each, and write the page when these are all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help="parts of the names of rows")
    parts: list[str] = parser.parse_args().rows
    chosen = [one for one in ZOO.values() if not parts or any(part in one.row for part in parts)]
    quiet_transformers()
    outcomes = {}
    for fixture in chosen:
        outcomes[fixture.row] = outcome(fixture)
        print(f"{fixture.row}: {outcomes[fixture.row]}", flush=True)
    if len(chosen) == len(ZOO):
        PAGE.write_text(write_page(outcomes))
    sys.exit(0 if not any(text.startswith("NOT") for text in outcomes.values()) else 1)


if __name__ == "__main__":
    main()
