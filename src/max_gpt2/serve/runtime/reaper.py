"""Runs a command that ends when its owner ends; `python reaper.py COMMAND...`, with a pipe of the owner's as its input.

Nothing stays behind: when the owner is gone (the pipe says so, whatever killed it), when the command ends, or when
this is told to end, all processes of the session are killed, and none of them is left unreaped. It is a program of its
own, of nothing but the standard library, because it has to work when everything else has stopped.
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
    """Return the processes of a session, on Linux; the session's leader is not one of them."""
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
    """Kill the processes of a session, also those that are started meanwhile; its leader is left alone."""
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
    """Start the command in a group of its own; it dies with this process."""
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
    """Reap whatever has ended; return how the child did if it is among them."""
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
    """End as the command ended: with its exit code, or by its signal."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    os._exit(code & 0xFF)


def main(command: list[str]) -> NoReturn:
    """Run the command until it ends, or the owner does."""
    _prctl(_SET_SUBREAPER, 1)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    told = []
    signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    child = _start(command)
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        if told:
            told.clear()
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
