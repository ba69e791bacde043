"""What the learner sees on the terminal."""

from rich.text import Text

from max_gpt2.cli.console import stderr, stdout, table
from tutorial.check import Plan, check, ran
from tutorial.exercises import exercise
from tutorial.places import STEPS, step_name
from tutorial.progress import Progress, read_progress
from tutorial.workshop import Workshop

#: What is going on, for those parts of a check that may take a while.
DOING = {
    "start": "Starting MAX and PyTorch",
    "operations": "MAX compiles its operations, for this step and the next ones (about a minute, the very first time)",
    "run": "MAX runs it (ten seconds for each operation that it has not met before)",
    "compile": "MAX compiles the whole model (about a minute the first time)",
}


def show_check(plan: Plan, workshop: Workshop) -> bool:
    """Check a step, say what ran and what came of it, and return whether it is right."""
    one = exercise(plan.number)
    stdout.print(Text(f"Step {plan.number}: {one.title}", style="bold"))
    stdout.print(Text(ran(plan)))
    with stderr.status(DOING["start"]) as status:
        verdict = check(plan, workshop, lambda part: status.update(DOING.get(part, "Checking")))
    if verdict.passed:
        stdout.print(Text(f"Right. {verdict.text}", style="green"))
        show_bar(read_progress())
    else:
        stdout.print(Text("Not yet.", style="yellow"))
        stdout.print(Text(verdict.text))
        stdout.print(Text(f"A hint: make hint STEP={plan.number}", style="dim"))
    return verdict.passed


def show_bar(progress: Progress) -> None:
    """Print how much is done, and what is next."""
    done, following = progress.done(), progress.next()
    bar = "".join("█" if number in done else "░" for number in range(1, STEPS + 1))
    stdout.print(Text(f"{bar} {len(done)} of {STEPS}"))
    if following is None:
        stdout.print(Text("All of it is yours. Load a GPT-2 into your own model: python main.py --mine"))
    else:
        title = exercise(following).title
        stdout.print(Text(f"Next: step {following}, {title}, in {step_name(following)}; make check STEP={following}"))


def show_progress(progress: Progress) -> None:
    """Print every step, how far it is, and the bar."""
    done, changed, following = progress.done(), progress.changed(), progress.next()
    rows = []
    for number in range(1, STEPS + 1):
        state = "done" if number in done else "changed since it passed" if number in changed else ""
        rows.append([str(number), exercise(number).title, state or ("next" if number == following else "")])
    stdout.print(table(("step", "right"), ("", "left"), ("", "left"), rows=rows))
    show_bar(progress)


def show_hint(number: int, progress: Progress) -> None:
    """Print the next hint of a step, or all of them when there is no other; the progress counts them."""
    hints, read = exercise(number).hints, progress.hints.get(number, 0)
    for place in [read] if read < len(hints) else range(len(hints)):
        stdout.print(Text(f"Hint {place + 1} of {len(hints)}: {hints[place]}"))
    progress.hints[number] = min(read + 1, len(hints))
    more = f"make hint STEP={number}" if read + 1 < len(hints) else f"make solution STEP={number}"
    stdout.print(Text(f"More: {more}", style="dim"))
