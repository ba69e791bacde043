"""The options of `max-gpt2 generate` as somebody changes them between two prompts."""

import difflib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from max_gpt2.errors import RequestError
from max_gpt2.generation import Request

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
