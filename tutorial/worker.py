"""The process in which learners' steps run: it imports MAX and PyTorch once, and checks as often as it is asked."""

import os
import signal
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection

from tutorial.verdict import Verdict


@dataclass(frozen=True)
class Task:
    """A step to check, and the earlier steps that are the learner's own."""

    number: int
    own: frozenset[int]


#: What it tells: the part of the check that begins now (those of `workshop.LIMITS`), or the verdict.
Event = str | Verdict


def serve(pipe: Connection) -> None:
    """Check one task after the other until the other side hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other side's, which ends this process
    os.dup2(2, 1)  # what a step prints is shown, but not among what the check itself says
    pipe.send("start")
    from tutorial.checking import check_task

    pipe.send("ready")
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        verdict = check_task(task, pipe.send)
        sys.stderr.flush()
        pipe.send(verdict)
