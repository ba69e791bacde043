"""Read a line, answer it, and again."""

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

from max_gpt2.cli.console import stderr
from max_gpt2.cli.report_generate import show_as_it_is_written
from max_gpt2.errors import MaxGPT2Error, RequestError
from max_gpt2.generation import Loaded, Request, check_request, encode_prompt, fresh_seed

MOST_LINES = 1000


def history_file() -> Path:
    """Return where the lines are kept: below `XDG_STATE_HOME`, or else `~/.local/state`."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # which the XDG specification says to pass over
        state = Path(os.path.expanduser("~/.local/state"))  # noqa: PTH111  (Path's own raises where there is no home)
    return state / "max-gpt2" / "history"


class History:
    """Lines that the arrow keys find. Where they cannot be kept they are forgotten, and `problem` says why."""

    def __init__(self, file: Path) -> None:
        """Read what was kept, the last `MOST_LINES` of it."""
        self.problem = ""
        self._file = file
        self._readline = _readline()
        if not self._readline:
            self.problem = "This Python has no readline: there is no history, and no editing."
            return
        self._readline.set_auto_history(False)
        self._readline.clear_history()
        with self._noted():
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file.touch(mode=0o600)
            self._readline.read_history_file(file)
            if self._readline.get_current_history_length() > MOST_LINES:
                self._readline.set_history_length(MOST_LINES)
                self._readline.write_history_file(file)

    def add(self, line: str) -> None:
        """Keep a line, on the disk at once."""
        if self._readline and line.strip():
            self._readline.add_history(line)
            with self._noted():
                self._readline.append_history_file(1, self._file)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Note what cannot be read or written: it is a pity, and no reason to stop."""
        try:
            yield
        except OSError as error:
            self.problem = f"The history is not kept: {self._file} ({error.strerror or error})."


def _readline() -> Any:
    """Return the module, or None where Python was built without it."""
    try:
        return importlib.import_module("readline")
    except ImportError:
        return None


NONE = "none"


def change(options: Request, line: str) -> tuple[str, Request]:
    """Take `NAME VALUE` and return the option's name, and the options with the value.

    Raises RequestError when there is no such option, or when the value is impossible.
    """
    name, _, text = line.strip().partition(" ")
    name, text = name.lstrip("-").replace("-", "_"), text.strip()
    if name not in SETTINGS:
        close = difflib.get_close_matches(name, SETTINGS, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"There are {', '.join(SETTINGS)}."
        raise RequestError(f'There is no setting "{name}". {hint}')
    read, expected = SETTINGS[name]
    try:
        value = read(text)
    except ValueError as error:
        raise RequestError(
            f'{name} "{text}" is not {expected}. Write /set {name} and one, such as {_now(options, name)}.'
        ) from error
    if name in ("max_new_tokens", "stop"):
        return name, replace(options, **{name: value})
    return name, replace(options, sampling=replace(options.sampling, **{name: value}))


def shown(options: Request) -> list[str]:
    """Return a line for each setting: its name and its value."""
    return [f"{name} {_now(options, name)}" for name in SETTINGS]


def shown_one(options: Request, name: str) -> str:
    """Return the line of one setting."""
    return f"{name} {_now(options, name)}"


def _now(options: Request, name: str) -> str:
    value = getattr(options if name in ("max_new_tokens", "stop") else options.sampling, name)
    if name == "stop":
        return " ".join(json.dumps(one, ensure_ascii=False) for one in value) or NONE
    return NONE if value is None else str(value)


def _seed(text: str) -> int | None:
    return None if text == NONE else int(text)


def _stop(text: str) -> list[str]:
    """Read one text, in quotes if it has a line end or a blank at an end; several are set on the command line."""
    if text == NONE:
        return []
    if not text.startswith('"'):
        return [text]
    value = json.loads(text)
    if not isinstance(value, str):
        raise ValueError
    return [value]


_WHOLE: tuple[Callable[[str], Any], str] = (int, "a whole number")
_NUMBER: tuple[Callable[[str], Any], str] = (float, "a number")
SETTINGS: dict[str, tuple[Callable[[str], Any], str]] = {
    "max_new_tokens": _WHOLE,
    "temperature": _NUMBER,
    "top_k": _WHOLE,
    "top_p": _NUMBER,
    "min_p": _NUMBER,
    "repetition_penalty": _NUMBER,
    "presence_penalty": _NUMBER,
    "frequency_penalty": _NUMBER,
    "no_repeat_ngram_size": _WHOLE,
    "min_new_tokens": _WHOLE,
    "stop": (_stop, f'a text, a text in quotes such as "\\n", or {NONE}'),
    "seed": (_seed, f"a whole number or {NONE}"),
}


HELP = """\
Type a text and press Enter: the model continues it. Ctrl-C stops it, Ctrl-D ends.
  /set                   show the settings
  /set temperature 0.5   change one
  /help                  show this
  /quit                  end
A text that starts with a slash is typed with two: //like this."""


class PromptLoop:
    """Somebody at a terminal, and a model that continues what is typed."""

    def __init__(self, loaded: Loaded, options: Request, read: Callable[[str], str] = input) -> None:
        """Take a model and the options to start with; `read` shows a prompt and returns a line."""
        self.options = options
        self._loaded = loaded
        self._read = read

    def run(self) -> None:
        """Go on until Ctrl-D or `/quit`."""
        history = History(history_file())
        stderr.print("[dim]/help shows what there is, Ctrl-D ends.[/dim]")
        if history.problem:
            stderr.print(history.problem, style="dim", markup=False)
        while True:
            try:
                line = self._read("> ")
            except EOFError:
                print()
                return
            except KeyboardInterrupt:  # what was typed is forgotten, as in a shell
                print()
                continue
            history.add(line)
            if line.strip() in ("/quit", "/exit"):
                return
            try:
                self.answer(line)
            except MaxGPT2Error as error:
                print(f"error: {error}", file=sys.stderr)
            except KeyboardInterrupt:
                print()
                stderr.print("[dim]stopped[/dim]")

    def answer(self, line: str) -> None:
        """Carry one line out; raises RequestError when it cannot be."""
        if line.startswith("/") and not line.startswith("//"):
            self._obey(line)
        elif line.strip():
            self._continue(line.removeprefix("/") if line.startswith("//") else line)

    def _continue(self, prompt: str) -> None:
        engine, seed = self._loaded.engine, self.options.sampling.seed
        request = replace(self.options, prompt_tokens=encode_prompt(engine.tokenizer, prompt))
        show_as_it_is_written(self._loaded, request.with_seed(fresh_seed() if seed is None else seed))

    def _obey(self, line: str) -> None:
        command, _, rest = line.strip().partition(" ")
        if command == "/help":
            print(HELP)
        elif command == "/set" and not rest.strip():
            print("\n".join(shown(self.options)))
        elif command == "/set":
            name, options = change(self.options, rest)
            engine = self._loaded.engine
            check_request(engine.model.config, engine.tokenizer, replace(options, prompt_tokens=[0]))
            self.options = options
            print(shown_one(options, name))
        else:
            raise RequestError(
                f"There is no {command}. /help shows what there is; a text with a slash starts with two."
            )
