"""Run commands that do not end by themselves."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from threading import Timer


def run_until(command: str, folder: Path, environment: Mapping[str, str], expected: str) -> str:
    """Run a command until a line of its output contains `expected`, then interrupt it; return all output.

    A command that neither prints it nor ends within a minute is killed.
    """
    output = ""
    with subprocess.Popen(
        command,
        shell=True,
        cwd=folder,
        env=dict(environment) | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        limit = Timer(60, os.killpg, (process.pid, signal.SIGKILL))
        limit.start()
        assert process.stdout
        for line in process.stdout:
            output += line
            if expected in line:
                os.killpg(process.pid, signal.SIGINT)
                break
        output += process.stdout.read()
        limit.cancel()
    return output
