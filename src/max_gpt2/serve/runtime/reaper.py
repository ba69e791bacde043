"""Runs a command that ends with its owner: `python reaper.py COMMAND...`, with a pipe from the owner as standard input.

SIGTERM is passed on to the command. When the command exits, or the owner does (its end of the pipe then closes,
whatever killed it), all processes of the session are killed and reaped. This is a separate program that uses only the
standard library, because it has to work when everything else has failed.
"""

import ctypes
import os
import select
import signal
import sys
from pathlib import Path
from typing import NoReturn

_SET_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36


def session_members(session: int) -> list[int]:
    """Return the processes of a session except for its leader; Linux only."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and int(entry.parent.name) != session and fields[0] != "Z":
            found.append(int(entry.parent.name))
    return found


def kill_session(session: int) -> None:
    """Kill the processes of a session except for its leader, including processes started meanwhile."""
    for _ in range(100):
        members = session_members(session)
        if not members:
            return
        for member in members:
            try:
                os.kill(member, signal.SIGKILL)
            except ProcessLookupError:
                continue
        _reap()
        select.select([], [], [], 0.01)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _start(command: list[str]) -> int:
    """Start the command in its own process group; the kernel kills it when this process exits."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)
        _prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        for one in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(one, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", file=sys.stderr)
    os._exit(127)


def _reap(child: int = 0) -> int | None:
    """Reap all processes that have exited; return the wait status of `child` if it is one of them."""
    status = None
    while True:
        try:
            pid, ended = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == child:
            status = ended


def _leave(status: int) -> NoReturn:
    """Exit as the command did: with its exit code, or by the same signal."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    os._exit(code & 0xFF)


def main(command: list[str]) -> NoReturn:
    """Run the command until it or the owner exits."""
    _prctl(_SET_SUBREAPER, 1)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    received = []
    signal.signal(signal.SIGTERM, lambda number, _frame: received.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    child = _start(command)
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        if received:
            received.clear()
            os.kill(child, signal.SIGTERM)
        status = _reap(child)
        if status is None and 0 in ready and not os.read(0, 4096):
            status = signal.SIGKILL
        if status is not None:
            kill_session(os.getpid())
            _reap()
            _leave(int(status))


if __name__ == "__main__":
    main(sys.argv[1:])
