"""Commands that go on until somebody ends them."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from threading import Timer


def until_said(command: str, folder: Path, environment: Mapping[str, str], words: str) -> str:
    """Run a command until it says these words, or ends, or a minute is over; return all that it said."""
    said = ""
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
            said += line
            if words in line:
                os.killpg(process.pid, signal.SIGINT)
                break
        said += process.stdout.read()
        limit.cancel()
    return said
