"""Run a command-line program: exit codes, error messages and standard input."""

import os
import stat
import sys
import warnings
from collections.abc import Callable
from typing import Any

import typer

from max_gpt2.errors import MaxGPT2Error, RequestError, StoppedError, UnknownTextWarning

USAGE_ERROR = 2
INTERNAL_ERROR = 70
TYPER_INTERRUPTED = 130


def make_program(command: Callable[..., object]) -> Callable[[], object]:
    """Return a program that runs one function; its parameters are the command-line options."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(command)
    return lambda: app(standalone_mode=False)


def run_guarded(program: Callable[[], object]) -> int:
    """Run a program, print any error as one message on standard error, and return the exit code.

    The code is 2 for every error that the user can fix and for Ctrl-C, and 70 for an internal error.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UnknownTextWarning)
            warnings.showwarning = _print_warning(warnings.showwarning)
            code = program()
    except StoppedError as error:
        return _exit_interrupted(str(error))
    except MaxGPT2Error as error:
        return _print_error(str(error))
    except typer.TyperException as error:
        return _print_error(f"{_sentence(error.format_message())} Use --help to list the available options.")
    except (KeyboardInterrupt, typer.Abort):
        return _exit_interrupted()
    except SystemExit as leaving:
        if not isinstance(leaving.__context__, BrokenPipeError):
            raise
        # The reader closed the pipe, as in `max-gpt2 info | head -1`. Typer would exit with 1.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _print_error(f"Cannot read or write {error.filename or 'a file'}: {error.strerror or error}.")
    except MemoryError:
        return _print_error("Not enough memory for this model. Use a smaller model or a machine with more memory.")
    except Exception as error:
        if os.environ.get("MAX_GPT2_DEBUG"):
            raise
        _print_error(
            f"Internal error ({type(error).__name__}: {error}). "
            "Set MAX_GPT2_DEBUG=1 to get the traceback, and report it as a bug."
        )
        return INTERNAL_ERROR
    if code == TYPER_INTERRUPTED:
        return _exit_interrupted()
    return code if isinstance(code, int) else 0


def _sentence(message: str) -> str:
    """Return the message with exactly one sentence mark at its end."""
    return message if message.endswith(("?", "!")) else f"{message.rstrip('.')}."


def _exit_interrupted(
    message: str = "Stopped by Ctrl-C. Nothing was saved; run the command again to start over.",
) -> int:
    _print_error(message)
    sys.stderr.flush()
    os._exit(USAGE_ERROR)  # a normal exit would wait for the thread in which MAX compiles


def _print_warning(show: Callable[..., None]) -> Callable[..., None]:
    """Return a function that prints our warnings as one line and passes others to `show`."""

    def print_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, UnknownTextWarning):
            print(f"warning: {message}", file=sys.stderr)
        else:
            show(message, category, *where, **more)

    return print_warning


def _print_error(message: str) -> int:
    """Print plain text, neither wrapped nor coloured, so that scripts can parse it."""
    print(f"error: {message}", file=sys.stderr)
    return USAGE_ERROR


def is_interactive() -> bool:
    """Return True if both standard input and standard output are a terminal."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def read_piped_text() -> str | None:
    """Return the text piped or redirected to standard input without its last newline, or None if there is none.

    Raises RequestError when the input is not UTF-8.
    """
    try:
        mode = os.fstat(0).st_mode
    except OSError:  # standard input is closed
        return None
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
        return None
    with open(0, "rb", closefd=False) as file:
        content = file.read()
    try:
        return content.decode().removesuffix("\n").removesuffix("\r") or None
    except UnicodeDecodeError as error:
        raise RequestError(f"Standard input is not UTF-8 at byte {error.start + 1}. Convert it to UTF-8.") from error
