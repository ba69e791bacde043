"""Read prompts from a terminal and continue each of them."""

import difflib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from max_gpt2.cli.console import stderr, stream_to_stdout
from max_gpt2.errors import MaxGPT2Error, RequestError
from max_gpt2.generation import Loaded, Request, check_request, encode_prompt, fresh_seed

MAX_HISTORY_LINES = 1000


def history_file() -> Path:
    """Return the path of the history file, below `XDG_STATE_HOME` or `~/.local/state`."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # the XDG specification requires ignoring relative paths
        state = Path(os.path.expanduser("~/.local/state"))  # noqa: PTH111  (Path's own raises where there is no home)
    return state / "max-gpt2" / "history"


class History:
    """A readline history in a file. If the file cannot be used, `problem` is the reason, and nothing is saved."""

    def __init__(self, file: Path) -> None:
        """Read the last `MAX_HISTORY_LINES` lines of the file."""
        self.problem = ""
        self._file = file
        self._readline = _readline()
        if not self._readline:
            self.problem = "This Python has no readline module: line editing and history are unavailable."
            return
        self._readline.set_auto_history(False)
        self._readline.clear_history()
        with self._record_problem():
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file.touch(mode=0o600)
            self._readline.read_history_file(file)
            if self._readline.get_current_history_length() > MAX_HISTORY_LINES:
                self._readline.set_history_length(MAX_HISTORY_LINES)
                self._readline.write_history_file(file)

    def add(self, line: str) -> None:
        """Append a line to the history and to the file."""
        if self._readline and line.strip():
            self._readline.add_history(line)
            with self._record_problem():
                self._readline.append_history_file(1, self._file)

    @contextmanager
    def _record_problem(self) -> Iterator[None]:
        """Record an OSError in `problem` instead of raising it."""
        try:
            yield
        except OSError as error:
            self.problem = f"The history cannot be saved: {self._file} ({error.strerror or error})."


def _readline() -> Any:
    """Return the readline module, or None when Python was built without it."""
    try:
        return importlib.import_module("readline")
    except ImportError:
        return None


NONE = "none"


def parse_setting(options: Request, line: str) -> tuple[str, Request]:
    """Parse `NAME VALUE`; return the name and a copy of the options with the new value.

    Raises RequestError when the name is unknown or the value is invalid.
    """
    name, _, text = line.strip().partition(" ")
    name, text = name.lstrip("-").replace("-", "_"), text.strip()
    if name not in SETTINGS:
        close = difflib.get_close_matches(name, SETTINGS, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"The settings are {', '.join(SETTINGS)}."
        raise RequestError(f'Unknown setting "{name}". {hint}')
    read, expected = SETTINGS[name]
    try:
        value = read(text)
    except ValueError as error:
        raise RequestError(
            f'{name} "{text}" is not {expected}. Write it as /set {name} {_value(options, name)}.'
        ) from error
    if name in ("max_new_tokens", "stop"):
        return name, replace(options, **{name: value})
    return name, replace(options, sampling=replace(options.sampling, **{name: value}))


def format_settings(options: Request) -> list[str]:
    """Return one line per setting: name and value."""
    return [format_setting(options, name) for name in SETTINGS]


def format_setting(options: Request, name: str) -> str:
    """Return the name and the value of one setting."""
    return f"{name} {_value(options, name)}"


def _value(options: Request, name: str) -> str:
    value = getattr(options if name in ("max_new_tokens", "stop") else options.sampling, name)
    if name == "stop":
        return " ".join(json.dumps(one, ensure_ascii=False) for one in value) or NONE
    return NONE if value is None else str(value)


def _seed(text: str) -> int | None:
    return None if text == NONE else int(text)


def _stop(text: str) -> list[str]:
    """Parse one stop string, as plain text or as a JSON string in quotes."""
    if text == NONE:
        return []
    if not text.startswith('"'):
        return [text]
    value = json.loads(text)
    if not isinstance(value, str):
        raise ValueError
    return [value]


_INTEGER: tuple[Callable[[str], Any], str] = (int, "an integer")
_NUMBER: tuple[Callable[[str], Any], str] = (float, "a number")
SETTINGS: dict[str, tuple[Callable[[str], Any], str]] = {
    "max_new_tokens": _INTEGER,
    "temperature": _NUMBER,
    "top_k": _INTEGER,
    "top_p": _NUMBER,
    "min_p": _NUMBER,
    "repetition_penalty": _NUMBER,
    "presence_penalty": _NUMBER,
    "frequency_penalty": _NUMBER,
    "no_repeat_ngram_size": _INTEGER,
    "min_new_tokens": _INTEGER,
    "stop": (_stop, f'text, quoted text such as "\\n", or {NONE}'),
    "seed": (_seed, f"an integer or {NONE}"),
}


HELP = """\
Type a prompt and press Enter to continue it. Ctrl-C stops generation, Ctrl-D quits.
  /set                   show the settings
  /set temperature 0.5   change a setting
  /help                  show this help
  /quit                  quit
To start a prompt with a slash, type two: //like this."""


class PromptLoop:
    """An interactive loop that continues each prompt typed at a terminal."""

    def __init__(self, loaded: Loaded, options: Request, read: Callable[[str], str] = input) -> None:
        """Start with the given options; `read` shows its argument and returns a line."""
        self.options = options
        self._loaded = loaded
        self._read = read

    def run(self) -> None:
        """Process lines until Ctrl-D or `/quit`."""
        history = History(history_file())
        stderr.print("[dim]Type /help for help, Ctrl-D to quit.[/dim]")
        if history.problem:
            stderr.print(history.problem, style="dim", markup=False)
        while True:
            try:
                line = self._read("> ")
            except EOFError:
                print()
                return
            except KeyboardInterrupt:  # discard the line, as a shell does
                print()
                continue
            history.add(line)
            if line.strip() in ("/quit", "/exit"):
                return
            try:
                self.process(line)
            except MaxGPT2Error as error:
                print(f"error: {error}", file=sys.stderr)
            except KeyboardInterrupt:
                print()
                stderr.print("[dim]stopped[/dim]")

    def process(self, line: str) -> None:
        """Run a command or continue a prompt; raises RequestError when the line is invalid."""
        if line.startswith("/") and not line.startswith("//"):
            self._run_command(line)
        elif line.strip():
            self._continue(line.removeprefix("/") if line.startswith("//") else line)

    def _continue(self, prompt: str) -> None:
        engine, seed = self._loaded.engine, self.options.sampling.seed
        request = replace(self.options, prompt_tokens=encode_prompt(engine.tokenizer, prompt))
        stream_to_stdout(self._loaded, request.with_seed(fresh_seed() if seed is None else seed))

    def _run_command(self, line: str) -> None:
        command, _, rest = line.strip().partition(" ")
        if command == "/help":
            print(HELP)
        elif command == "/set" and not rest.strip():
            print("\n".join(format_settings(self.options)))
        elif command == "/set":
            name, options = parse_setting(self.options, rest)
            engine = self._loaded.engine
            check_request(engine.model.config, engine.tokenizer, replace(options, prompt_tokens=[0]))
            self.options = options
            print(format_setting(options, name))
        else:
            raise RequestError(
                f"Unknown command {command}. Type /help for help; start a prompt with // to begin it with a slash."
            )
