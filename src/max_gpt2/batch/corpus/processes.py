"""Child processes that receive calls and send messages, and that end with their parent."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from queue import SimpleQueue
from typing import IO, Any

from max_gpt2.errors import MaxGPT2Error, UnknownTextWarning

#: Seconds that a child has to give up its claims when it is told to end; a call of MAX may not return earlier.
_GRACE = 5.0


class ProcessError(MaxGPT2Error):
    """A worker process, or a Ray cluster, that ended unexpectedly."""


@dataclass(frozen=True)
class Warned:
    """A warning of a child process about a text."""

    message: str


class Child:
    """A child process, seen by its parent."""

    def __init__(self, module: str, stderr: IO[bytes] | None = None) -> None:
        """Run the function `main` of a module; the standard error is that of this process, or a file."""
        self.connection, other = connection.Pipe()
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {module} import main; main()", str(other.fileno())],
                # Not the C environment: MAX sets variables there that keep Python from finding its packages.
                env=dict(os.environ),
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=[other.fileno()],
            )

    def send(self, call: Any) -> None:
        """Send a call, or None: no more calls follow. Does nothing if the process has ended."""
        with suppress(BrokenPipeError, ConnectionResetError):  # `receive` tells
            self.connection.send(call)

    def receive(self) -> Any:
        """Return the next message; raises EOFError if the process has ended."""
        try:
            message = self.connection.recv()
        except OSError as error:  # it was killed in the middle of a message
            raise EOFError from error
        if isinstance(message, Warned):
            warnings.warn(message.message, UnknownTextWarning, stacklevel=2)
        return message

    def stop(self) -> str:
        """End the process, wait for it, and say how it ended."""
        self.connection.close()
        try:
            code = self._process.wait(_GRACE + 1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


class Parent:
    """The parent process, seen by its child."""

    def __init__(self, descriptor: int) -> None:
        self._connection: connection.Connection[Any, Any] = connection.Connection(descriptor)
        self._calls = SimpleQueue[Any]()

    def send(self, message: Any) -> None:
        """Send a message."""
        self._connection.send(message)

    def calls(self) -> Iterator[Any]:
        """Yield calls until the parent sends None. If the parent ends, this process does."""
        while (call := self._calls.get()) is not None:
            yield call

    def receive(self) -> None:
        """Receive calls until the parent sends None or ends."""
        try:
            call: Any = ()
            while call is not None:
                call = self._connection.recv()
                self._calls.put(call)
            self._connection.recv()
        except (EOFError, OSError):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(_GRACE)
            os._exit(1)


def run_child(serve: Callable[[Parent], None]) -> None:
    """Serve the parent whose descriptor is the first argument of the command line, then end this process.

    An error of `serve` that a user can understand is sent to the parent. SIGTERM raises SystemExit, so that claims are
    given up; Ctrl-C is left to the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.dup2(2, 1)  # the parent prints the results
    parent, code = Parent(int(sys.argv[1])), 0
    threading.Thread(target=parent.receive, daemon=True).start()
    try:
        warnings.simplefilter("always", UnknownTextWarning)
        warnings.showwarning = _sending(parent, warnings.showwarning)
        serve(parent)
    except MaxGPT2Error as error:
        parent.send(error)
    except SystemExit:
        code = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stderr.flush()
    os._exit(code)  # a normal exit would wait for the threads of MAX


def _sending(parent: Parent, show: Callable[..., None]) -> Callable[..., None]:
    """Return a function that sends warnings about texts to the parent and shows others."""

    def send_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, UnknownTextWarning):
            parent.send(Warned(str(message)))
        else:
            show(message, category, *where, **more)

    return send_warning
