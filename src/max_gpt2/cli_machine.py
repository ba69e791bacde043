"""The commands about this machine: `max-gpt2 doctor` and `max-gpt2 warm`."""

import typer

from max_gpt2.cli_options import AsJson


def doctor(as_json: AsJson = False) -> None:
    """Check the machine, the packages and the caches; the exit code is 0 when all that is needed is there, else 1."""
    from max_gpt2.doctor import examine
    from max_gpt2.json_text import json_text
    from max_gpt2.reports.doctor import doctor_facts, show_findings

    findings = examine()
    facts = doctor_facts(findings)
    print(json_text(facts)) if as_json else show_findings(findings)
    raise typer.Exit(0 if facts["ok"] else 1)
