"""Errors as a user sees them: one sentence on standard error, an exit code, and never a traceback."""

import os
import sys
from collections.abc import Callable

import typer

from max_gpt2.errors import MaxGPT2Error, StoppedError

REFUSED = 2
BROKEN = 70
TYPER_INTERRUPTED = 130


def as_program(command: Callable[..., object]) -> Callable[[], object]:
    """Make a program of one function: its parameters become the options of a command line."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(command)
    return lambda: app(standalone_mode=False)


def guarded(program: Callable[[], object]) -> int:
    """Run a program and return its exit code: 2 for anything that its user can put right, Ctrl-C included."""
    try:
        code = program()
    except StoppedError as error:
        return _stopped(str(error))
    except MaxGPT2Error as error:
        return _complain(str(error))
    except typer.TyperException as error:
        return _complain(f"{error.format_message().rstrip('.')}. Add --help to see what there is.")
    except (KeyboardInterrupt, typer.Abort):
        return _stopped()
    except SystemExit as leaving:
        if not isinstance(leaving.__context__, BrokenPipeError):
            raise
        # Whoever read the output has seen enough, as in `max-gpt2 info | head -1`; typer leaves with 1 then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _complain(f"{error.filename or 'A file'} cannot be read or written: {error.strerror or error}.")
    except MemoryError:
        return _complain("There is not enough memory for this model. Use a smaller one, or a machine with more.")
    except Exception as error:
        if os.environ.get("MAX_GPT2_DEBUG"):
            raise
        _complain(
            f"An error that max-gpt2 did not foresee ({type(error).__name__}: {error}). "
            "Set MAX_GPT2_DEBUG=1 to see where it happened, and report it."
        )
        return BROKEN
    if code == TYPER_INTERRUPTED:
        return _stopped()
    return code if isinstance(code, int) else 0


def _stopped(message: str = "Stopped by Ctrl-C. Nothing was kept; run the command again to start over.") -> int:
    _complain(message)
    sys.stderr.flush()
    os._exit(REFUSED)  # MAX may be compiling in a thread of its own, which an ordinary exit would wait for


def _complain(message: str) -> int:
    """Print plain text: nothing is wrapped or coloured for a script that reads it."""
    print(f"error: {message}", file=sys.stderr)
    return REFUSED
