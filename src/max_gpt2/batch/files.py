"""Resumable output files of JSON lines, and the identity of the run that wrote them."""

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from max_gpt2._files import check_writable, json_text, write_text
from max_gpt2.batch.inputs import Source
from max_gpt2.errors import RequestError
from max_gpt2.generation import ModelSource, fresh_seed
from max_gpt2.generation.fingerprint import fingerprint

Parsed = TypeVar("Parsed")


def run_identity(command: str, source: Source, opened: ModelSource, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that determines the output of a run, as JSON values."""
    values = {"command": command, "input": source.sha256, "model": fingerprint(opened), "options": options}
    return json.loads(json_text(values))


def sidecar(output: Path) -> Path:
    """Return the path of the file beside an output that identifies its run."""
    return output.with_name(f"{output.name}.run.json")


def write_identity(output: Path, run: Mapping[str, Any], **others: Any) -> None:
    """Write the sidecar of an output; raises RequestError when that fails."""
    write_text(sidecar(output), json_text({**run, **others}) + "\n")


_REMEDY = "Choose another --output, or add --force to replace it."


def read_seed(output: Path, run: Mapping[str, Any], seed: int | None) -> int:
    """Return the recorded seed of an output; raises RequestError if the output belongs to a different run.

    A `seed` of None matches every recorded seed.
    """
    found = read_identity(output, run, lambda recorded: int(recorded["seed"]))
    if seed not in (None, found):
        raise RequestError(f"{output} belongs to a run with a different seed ({found}, now {seed}). {_REMEDY}")
    return found


def read_identity(output: Path, run: Mapping[str, Any], parse: Callable[[dict[str, Any]], Parsed]) -> Parsed:
    """Return what `parse` finds in the sidecar of an output.

    Raises RequestError if the output belongs to a different run, or the sidecar is damaged.
    """
    beside = sidecar(output)
    try:
        recorded = json.loads(beside.read_bytes())
        parsed = parse(recorded)
    except FileNotFoundError as error:
        raise RequestError(
            f"{output} exists, but {beside.name}, which identifies its run, is missing. {_REMEDY}"
        ) from error
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise RequestError(f"{beside}, which identifies the run of {output.name}, is damaged. {_REMEDY}") from error
    if other := [name for name in run if recorded.get(name) != run[name]]:
        raise RequestError(
            f"{output} belongs to a run with a different {' and a different '.join(_named(other, recorded, run))}. "
            f"{_REMEDY}"
        )
    return parsed


def _named(names: list[str], recorded: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    """Return the names of the parts that differ; if only the options do, the names of those, with both values."""
    if names != ["options"] or not isinstance(recorded.get("options"), dict):
        return names
    before, now = recorded["options"], run["options"]
    return [f"{name} ({before.get(name)}, now {now[name]})" for name in now if before.get(name) != now[name]] or names


Record = dict[str, Any]


class OutputFile:
    """The output file of a run, locked while it is open. Closing it removes a partial last line.

    `done` is the number of complete lines, and `last` the number of the input line of the last of them. `seed` is the
    seed of the run, the recorded one when it is resumed.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], *, seed: int | None = None, force: bool = False) -> None:
        """Open and lock the file without changing it; `begin` makes the first change.

        Raises RequestError when the file cannot be written, or belongs to a different run and `force` is false.
        """
        check_output(path)
        self.path, self.done, self.last = path, 0, 0
        self.run, self._size, self._begun, self._created = run, 0, False, not path.exists()
        self._file = _open_locked(path)
        try:
            self.fresh = force or os.fstat(self._file).st_size == 0
            self.seed = (fresh_seed() if seed is None else seed) if self.fresh else read_seed(path, run, seed)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the file."""
        self.close()

    def resume(self, source: Source, on_record: Callable[[Record], None]) -> None:
        """Read the records of an earlier run and pass each to `on_record`; ignore a partial last line.

        Raises RequestError when a record does not match its input line.
        """
        if self.fresh:
            return
        numbers = source.numbers()
        with self.path.open("rb") as file:
            for raw in file:
                if not raw.endswith(b"\n"):
                    break
                record = self._read(raw, next(numbers, None))
                on_record(record)
                self.done, self.last = self.done + 1, record["line"]
                self._size += len(raw)

    def begin(self) -> None:
        """Write the sidecar of a new output, and truncate the file to the complete lines."""
        self._begun = True
        if self.fresh:
            os.ftruncate(self._file, 0)
            write_identity(self.path, self.run, seed=self.seed)
        self._truncate()

    def write(self, record: Record) -> None:
        """Append a record as one line; raises RequestError when writing fails, for example when the disk is full."""
        rest = memoryview(f"{json_text(record)}\n".encode())
        size = len(rest)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            raise RequestError(
                f"{self.path} cannot be written ({error.strerror}). It has {self.done} complete lines; "
                "free some disk space and run the same command again to resume."
            ) from error
        self._size += size
        self.done, self.last = self.done + 1, record["line"]

    def close(self) -> None:
        """Remove a partial last line, left by an error or Ctrl-C; delete a file that was created but not begun."""
        if self._file < 0:
            return
        if self._begun:
            self._truncate()
        elif self._created:
            self.path.unlink(missing_ok=True)
        os.close(self._file)
        self._file = -1

    def _truncate(self) -> None:
        os.ftruncate(self._file, self._size)
        os.lseek(self._file, self._size, os.SEEK_SET)

    def _read(self, raw: bytes, number: int | None) -> Record:
        try:
            record = json.loads(raw)
            if record["line"] == number:
                return record
        except (ValueError, TypeError, KeyError):
            pass
        raise RequestError(
            f"Line {self.done + 1} of {self.path} was changed, so the run cannot be resumed. "
            "Choose another --output, or add --force to start over."
        )


def check_output(path: Path) -> None:
    """Raise RequestError if a file cannot be written to the path of an output."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise RequestError(f"--output {path} is not a regular file. Give the path of a file.")
    check_writable(path)


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
        pass  # some network file systems do not support locks
    if os.fstat(file).st_nlink == 0:  # deleted by its run, which ended in between
        os.close(file)
        raise RequestError(f"Another run has just finished with {path}. Run the same command again.")
    return file
