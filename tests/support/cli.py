"""Call the command line in this process; the `cli` fixture provides the `Cli`."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Outcome:
    """The exit code of a command and its output on standard output and standard error."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


def refused(outcome: Outcome) -> str:
    """Assert that a command was refused with exit code 2 and exactly one error; return its standard error."""
    assert (outcome.code, outcome.out) == (2, "")
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, outcome.err
    assert "Traceback" not in outcome.err
    return outcome.err
