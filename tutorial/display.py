"""Terminal output of the tutorial's commands."""

from rich.text import Text

from max_gpt2.cli.console import stderr, stdout, table
from tutorial.check import Plan, check, describe
from tutorial.exercises import exercise
from tutorial.progress import Progress, read_progress
from tutorial.step_files import NUMBERS, STEPS, label, step_name
from tutorial.worker import Worker

#: The status line of each phase that may take more than a moment.
PHASES = {
    "start": "Starting MAX and PyTorch",
    "operations": "Compiling MAX's operations for all steps (about a minute, once)",
    "run": "Running the step in MAX (ten seconds for each operation it has not compiled before)",
    "compile": "Compiling the whole model (about a minute the first time)",
}


def show_check(plan: Plan, worker: Worker) -> bool:
    """Check a step, print the result, and return True if it passed."""
    stdout.print(Text(f"{_title(plan.number)}: {exercise(plan.number).title}", style="bold"))
    stdout.print(Text(describe(plan)))
    with stderr.status(PHASES["start"]) as status:
        verdict = check(plan, worker, lambda phase: status.update(PHASES.get(phase, "Checking")))
    if verdict.passed:
        stdout.print(Text(f"Passed. {verdict.text}", style="green"))
        if plan.number <= STEPS:
            show_bar(read_progress())
    else:
        stdout.print(Text("Not yet.", style="yellow"))
        stdout.print(Text(verdict.text))
        stdout.print(Text(f"For a hint: make hint STEP={label(plan.number)}", style="dim"))
    return verdict.passed


def _title(number: int) -> str:
    return f"Look inside {number - STEPS}" if number > STEPS else f"Step {number}"


def show_bar(progress: Progress) -> None:
    """Print a progress bar and the next step."""
    done, following = [number for number in progress.done() if number <= STEPS], progress.next()
    bar = "".join("█" if number in done else "░" for number in range(1, STEPS + 1))
    stdout.print(Text(f"{bar} {len(done)} of {STEPS}"))
    if following is None:
        stdout.print(Text("All steps are done. Load a GPT-2 into your own model: python main.py --learner-model"))
    else:
        title = exercise(following).title
        todo = f"Edit {step_name(following)}, then run: make check STEP={following}"
        stdout.print(Text(f"Next: step {following}, {title}. {todo}"))


def show_progress(progress: Progress) -> None:
    """Print the state of every step and the progress bar."""
    done, changed, following = progress.done(), progress.changed(), progress.next()
    rows = []
    for number in NUMBERS:
        state = "done" if number in done else "changed since it passed" if number in changed else ""
        rows.append([label(number), exercise(number).title, state or ("next" if number == following else "")])
    stdout.print(table(("step", "right"), ("", "left"), ("", "left"), rows=rows))
    show_bar(progress)


def show_hint(number: int, progress: Progress) -> None:
    """Print the next hint of a step, or all of them once all have been shown; count it in the progress."""
    hints, shown = exercise(number).hints, progress.hints.get(number, 0)
    for index in [shown] if shown < len(hints) else range(len(hints)):
        stdout.print(Text(f"Hint {index + 1} of {len(hints)}: {hints[index]}"))
    progress.hints[number] = min(shown + 1, len(hints))
    more = f"make hint STEP={label(number)}" if shown + 1 < len(hints) else f"make solution STEP={label(number)}"
    stdout.print(Text(f"For more: {more}", style="dim"))
