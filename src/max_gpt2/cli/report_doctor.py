"""What `max-gpt2 doctor` shows."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from max_gpt2.cli.console import stdout, table
from max_gpt2.system.doctor import Finding


def doctor_facts(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return what was found, as JSON values."""
    return {"ok": all(one.state != "problem" for one in findings), "findings": [asdict(one) for one in findings]}


def show_findings(findings: Sequence[Finding]) -> None:
    """Print a row for each finding, what to do where all is not well, and the verdict."""
    rows = [[one.name, "PROBLEM" if one.state == "problem" else one.state, one.says] for one in findings]
    stdout.print(table(("", "left"), ("", "left"), ("", "left"), rows=rows))
    for one in findings:
        if one.remedy:
            print(f"{one.name}: {one.remedy}")
    problems = sum(one.state == "problem" for one in findings)
    print(f"Problems: {problems}. Mend them, and run this again." if problems else "All that is needed is there.")
