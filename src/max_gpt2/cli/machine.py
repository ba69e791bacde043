"""The commands about this machine: `max-gpt2 doctor` and `max-gpt2 warm`."""

from typing import Annotated

import typer

from max_gpt2.cli.options import AllowNonfinite, AllowPickle, AsJson, Model, Tokenizer, WhichKernels, print_json


def doctor(as_json: AsJson = False) -> None:
    """Check the machine, the packages and the caches; the exit code is 0 when all that is needed is there, else 1."""
    from max_gpt2.cli.report_doctor import doctor_facts, show_findings
    from max_gpt2.system.doctor import examine

    findings = examine()
    facts = doctor_facts(findings)
    print_json(facts) if as_json else show_findings(findings)
    raise typer.Exit(0 if facts["ok"] else 1)


def warm(
    model: Model = "demo",
    verify: Annotated[bool, typer.Option("--verify", help="Compile what verify needs, too.")] = False,
    tokenizer: Tokenizer = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    kernels: WhichKernels = "mojo",
    as_json: AsJson = False,
) -> None:
    """Compile a model now, so that the next command that uses it starts in seconds."""
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli.console import with_clock
    from max_gpt2.cli.report_warm import show_warmed, warm_facts
    from max_gpt2.cli.warm import warm as warm_up

    options = LoadOptions(tokenizer, allow_pickle, allow_nonfinite, kernels)
    warmed = warm_up(model, with_clock, options, verify=verify)
    facts = warm_facts(model, warmed)
    print_json(facts) if as_json else show_warmed(facts)
