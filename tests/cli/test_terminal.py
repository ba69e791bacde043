"""`max-gpt2 generate` without a prompt: on a terminal, and after a pipe."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SECONDS = 60


#: A prompt that begins with "slow" is answered slowly enough to be stopped.
SLOW = """
import time
from max_gpt2.generation import Engine
steps = Engine.stream

def slowly(engine, request):
    for step in steps(engine, request):
        time.sleep(0.2 if engine.tokenizer.decode(request.prompt_tokens).startswith("slow") else 0)
        yield step

Engine.stream = slowly
from max_gpt2.cli import main
main()
"""


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *arguments: object, **environment: str) -> None:
        self.ours, theirs = pty.openpty()
        self.shown = ""
        command = [sys.executable, "-c", SLOW, *map(str, arguments)]
        variables = os.environ | {"TERM": "xterm"} | environment

        def own_terminal() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs are started without it
            os.setsid()
            os.close(os.open(os.ttyname(0), os.O_RDWR))  # the first that is opened is where Ctrl-C comes from

        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=variables, preexec_fn=own_terminal
        )
        os.close(theirs)

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def wait_for(self, text: str, count: int = 1) -> str:
        """Read until a text is there so often; return all since the last call."""
        end = time.monotonic() + SECONDS
        while self.shown.count(text) < count:
            assert time.monotonic() < end, self.shown
            if select.select([self.ours], [], [], 0.1)[0]:
                self.shown += self.read()
        shown, self.shown = self.shown, ""
        return shown

    def read(self) -> str:
        try:
            return os.read(self.ours, 4096).decode(errors="replace")
        except OSError:  # the other end is closed
            return ""

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)


@pytest.fixture
def terminal(tiny_original: Path, tmp_path: Path) -> Iterator[Terminal]:
    options = ["--model", tiny_original, "--max-new-tokens", 20, "--seed", 3]
    opened = Terminal("generate", *options, XDG_STATE_HOME=str(tmp_path))
    yield opened
    opened.close()


def test_a_talk_on_a_terminal(terminal: Terminal, tmp_path: Path) -> None:
    assert "Type /help for help" in terminal.wait_for("> ")
    terminal.type("The dog\n")
    first = terminal.wait_for("> ", 1)
    assert first.count("The dog") == 2  # as it was typed, and as the start of the text
    assert "20 tokens" in first
    terminal.type("/set seed 3\n")
    terminal.wait_for("> ")
    terminal.type("\x1b[A\x1b[A\n")  # the arrow up, twice: the line before the last again
    assert first.split("\r\n", 1)[1].split("tokens/s")[0][:40] in terminal.wait_for("> ")
    terminal.type("half a line")
    terminal.wait_for("half a line")
    time.sleep(0.2)  # Ctrl-C empties the terminal's queue, and readline would wait for what it has seen in there
    terminal.type("\x03")
    terminal.wait_for("> ")
    terminal.type("/set temperature hot\n")
    assert 'error: temperature "hot" is not a number' in terminal.wait_for("> ")
    terminal.type("\x04")
    assert terminal.process.wait(SECONDS) == 0
    kept = (tmp_path / "max-gpt2" / "history").read_text()
    assert kept == "The dog\n/set seed 3\nThe dog\n/set temperature hot\n"


def test_ctrl_c_stops_the_answer(terminal: Terminal) -> None:
    terminal.wait_for("> ")
    terminal.type("slow\n")
    terminal.wait_for("slow", 2)  # what was typed, and the start of the answer
    time.sleep(0.5)
    terminal.type("\x03")
    shown = terminal.wait_for("> ")
    assert "stopped" in shown
    assert "tokens/s" not in shown
    assert "Traceback" not in shown
    terminal.type("The dog\n")
    assert "20 tokens" in terminal.wait_for("> ")
    terminal.type("/quit\n")
    assert terminal.process.wait(SECONDS) == 0
