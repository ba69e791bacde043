"""Renders a chat template, which is an untrusted program, in a process of its own with limits.

It runs by its path, imports nothing of this package, and exchanges frames with `template_process`: four bytes with the
length, then JSON. The first frame has the source, the others have the variables of one rendering.
"""

import importlib
import json
import resource
import signal
import struct
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NoReturn

from jinja2.ext import loopcontrols
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace
from markupsafe import Markup

CPU_S = 1.0
#: In addition to the memory of the process before it compiles the template.
MEMORY_BYTES = 256 << 20
MAX_CHARACTERS = 1 << 20
_WITH_ATTRIBUTES = (str, Markup, dict, list, tuple, LoopContext, Cycler, Joiner, Namespace)


class Environment(ImmutableSandboxedEnvironment):
    """A sandbox that changes nothing, in which only text, lists, dictionaries and loops have attributes."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Return True for the public attributes of the few types that templates need."""
        return type(obj) in _WITH_ATTRIBUTES and super().is_safe_attribute(obj, attr, value)


class RejectedError(Exception):
    """The template called `raise_exception`."""


def read_frame(stream: IO[bytes]) -> bytes | None:
    """Return the next frame, or None at the end of the stream."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    size: int = struct.unpack("<I", head)[0]
    content = stream.read(size)
    return content if len(content) == size else None


def write_frame(stream: IO[bytes], value: dict[str, Any]) -> None:
    """Write a value as a frame."""
    content = json.dumps(value).encode()
    stream.write(struct.pack("<I", len(content)) + content)
    stream.flush()


def main() -> None:
    """Compile the template of the first frame, and render it for each frame that follows."""
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    _limit_resources()
    source = read_frame(requests)
    if source is None:
        return
    environment = _environment()
    template: Any = None

    def compile_template() -> dict[str, Any]:
        nonlocal template
        template = environment.from_string(json.loads(source)["source"])
        return {}

    write_frame(replies, _run(compile_template))
    while template is not None and (frame := read_frame(requests)) is not None:
        write_frame(replies, _run(lambda content=frame: _render(template, json.loads(content))))


def _environment() -> Environment:
    environment = Environment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _reject, "strftime_now": _now}
    return environment


def _render(template: Any, variables: dict[str, Any]) -> dict[str, Any]:
    text: str = template.render(variables)
    if len(text) > MAX_CHARACTERS:
        return {"failed": f"it renders {len(text)} characters; the maximum is {MAX_CHARACTERS}"}
    return {"text": text}


def _run(work: Any) -> dict[str, Any]:
    """Return the result of `work` or its error; SIGPROF ends the process when it takes too much processor time."""
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    try:
        found: dict[str, Any] = work()
    except RejectedError as error:
        found = {"rejected": str(error)[:500]}
    except MemoryError:
        found = {"failed": f"it needs more than {MEMORY_BYTES >> 20} MiB of memory"}
    except Exception as error:  # a template is a program and can raise anything
        found = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
    signal.setitimer(signal.ITIMER_PROF, 0)
    return found


def _limit_resources() -> None:
    """Limit the memory, and allow neither files nor processes."""
    for name in ("jinja2.constants", "jinja2.debug", "encodings.unicode_escape", "pprint"):  # imported when needed
        importlib.import_module(name)
    time.localtime()  # reads the time zone
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MEMORY_BYTES
    limits = {"AS": size, "NOFILE": 3, "NPROC": 0, "FSIZE": 0, "CORE": 0}
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(number)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))


def _reject(message: object) -> NoReturn:
    raise RejectedError(str(message))


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


if __name__ == "__main__":
    main()
