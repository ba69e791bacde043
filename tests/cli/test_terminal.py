"""`max-gpt2 generate` without a prompt, on a pseudo-terminal."""

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


#: Runs max-gpt2 and pauses 0.2 s per token after a prompt that begins with "slow", so that a test can interrupt it.
SLOW = """
import time
from max_gpt2.generation import Engine
stream = Engine.stream

def slowly(engine, request):
    for output in stream(engine, request):
        time.sleep(0.2 if engine.tokenizer.decode(request.prompt_tokens).startswith("slow") else 0)
        yield output

Engine.stream = slowly
from max_gpt2.cli import main
main()
"""


class Terminal:
    """A command on a new pseudo-terminal."""

    def __init__(self, *arguments: object, **environment: str) -> None:
        self.ours, theirs = pty.openpty()
        self.shown = ""
        command = [sys.executable, "-c", SLOW, *map(str, arguments)]
        variables = os.environ | {"TERM": "xterm"} | environment

        def own_terminal() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # shells ignore SIGINT for background jobs
            os.setsid()
            os.close(
                os.open(os.ttyname(0), os.O_RDWR)
            )  # the first terminal opened after setsid becomes the controlling one

        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=variables, preexec_fn=own_terminal
        )
        os.close(theirs)

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def wait_for(self, text: str, count: int = 1) -> str:
        """Read until `text` has appeared `count` times; return all output since the last call."""
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
        except OSError:  # the process has closed its end
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


def test_prompt_loop_has_editing_history_and_settings(terminal: Terminal, tmp_path: Path) -> None:
    assert "Type /help for help" in terminal.wait_for("> ")
    terminal.type("The dog\n")
    first = terminal.wait_for("> ", 1)
    assert first.count("The dog") == 2  # the echo of the input, and the start of the output
    assert "20 tokens" in first
    terminal.type("/set seed 3\n")
    terminal.wait_for("> ")
    terminal.type("\x1b[A\x1b[A\n")  # arrow up twice: recall the line before the last
    assert first.split("\r\n", 1)[1].split("tokens/s")[0][:40] in terminal.wait_for("> ")
    terminal.type("half a line")
    terminal.wait_for("half a line")
    time.sleep(0.2)  # Ctrl-C flushes the terminal's input queue; readline must have read it by then
    terminal.type("\x03")
    terminal.wait_for("> ")
    terminal.type("/set temperature hot\n")
    assert 'error: temperature "hot" is not a number' in terminal.wait_for("> ")
    terminal.type("\x04")
    assert terminal.process.wait(SECONDS) == 0
    history = (tmp_path / "max-gpt2" / "history").read_text()
    assert history == "The dog\n/set seed 3\nThe dog\n/set temperature hot\n"


def test_ctrl_c_stops_generation_but_not_the_loop(terminal: Terminal) -> None:
    terminal.wait_for("> ")
    terminal.type("slow\n")
    terminal.wait_for("slow", 2)  # the echo of the input, and the start of the output
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
