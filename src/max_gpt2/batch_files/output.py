"""A file of JSON lines that grows line by line, and goes on where it was left."""

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from max_gpt2.batch_files.identity import read_seed, write_identity
from max_gpt2.batch_files.lines import InputFile
from max_gpt2.errors import RequestError
from max_gpt2.files import check_writable
from max_gpt2.generation import fresh_seed
from max_gpt2.json_text import json_text

Record = dict[str, Any]


class OutputFile:
    """An output of one run: locked while it is open, and never with half a line in it when it is closed.

    `done` is how many lines it has; `seed` is the seed of the run, the recorded one when it goes on.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], *, seed: int | None = None, force: bool = False) -> None:
        """Look at what is there; `begin` starts to change it.

        Raises RequestError when the file cannot be written, or is of another run and there is no `force`.
        """
        if path.exists() and not path.is_file() and not path.is_dir():
            raise RequestError(f"--output {path} is not an ordinary file, which could be gone on with. Name a file.")
        check_writable(path)
        self.path, self.done = path, 0
        self._run, self._size, self._begun, self._made = run, 0, False, not path.exists()
        self._file = _open_locked(path)
        try:
            self.fresh = force or os.fstat(self._file).st_size == 0
            self.seed = (fresh_seed() if seed is None else seed) if self.fresh else read_seed(path, run, seed)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close it."""
        self.close()

    def keep(self, source: InputFile, tally: Callable[[Record], None]) -> None:
        """Find the lines that are there already, and hand each to `tally`; half a line at the end does not count.

        Raises RequestError when one of them is not what was written there.
        """
        if self.fresh:
            return
        with self.path.open("rb") as file:
            for at, raw in enumerate(file):
                if not raw.endswith(b"\n"):
                    break
                tally(self._read(raw, at, source.numbers))
                self.done += 1
                self._size += len(raw)

    def begin(self) -> None:
        """Say beside the output what it is of, when it is a new one; drop what is not kept."""
        self._begun = True
        if self.fresh:
            os.ftruncate(self._file, 0)
            write_identity(self.path, self._run, self.seed)
        self._drop_half_a_line()

    def write(self, record: Record) -> None:
        """Add a line, which is in the file when this returns; raises RequestError when there is no room for it."""
        rest = memoryview(f"{json_text(record)}\n".encode())
        size = len(rest)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            raise RequestError(
                f"{self.path} cannot be written ({error.strerror}). It has the first {self.done} lines, whole; "
                "make room and run the same command again to go on."
            ) from error
        self._size += size
        self.done += 1

    def close(self) -> None:
        """Drop half a line that an error or Ctrl-C may have left, and the file itself if nothing was begun."""
        if self._file < 0:
            return
        if self._begun:
            self._drop_half_a_line()
        elif self._made:
            self.path.unlink()
        os.close(self._file)
        self._file = -1

    def _drop_half_a_line(self) -> None:
        os.ftruncate(self._file, self._size)
        os.lseek(self._file, self._size, os.SEEK_SET)

    def _read(self, raw: bytes, at: int, numbers: list[int]) -> Record:
        try:
            record = json.loads(raw)
            if record["line"] == numbers[at]:
                return record
        except (ValueError, TypeError, KeyError, IndexError):
            pass
        raise RequestError(
            f"{self.path}, line {at + 1}, is not what was written there, so the run cannot go on. "
            "Choose another --output, or add --force to start over."
        )


def _open_locked(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RequestError(f"{path} cannot be written ({error.strerror}). Choose another --output.") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise RequestError(f"Another run is writing {path}. Wait for it, or choose another --output.") from error
    except OSError:
        pass  # some network folders cannot lock
    return file
