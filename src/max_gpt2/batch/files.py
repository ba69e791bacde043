"""Input files of text or JSON lines, and resumable output files of JSON lines."""

import fcntl
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from max_gpt2._files import check_writable, json_text, write_text
from max_gpt2.errors import RequestError
from max_gpt2.generation import ModelSource, fresh_seed

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_JSON_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Line:
    """A non-blank input line: its number in the file, counted from 1, and its fields or a problem."""

    number: int
    fields: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class InputFile:
    """An input file: the numbers of its non-blank lines, and the SHA-256 of its content.

    A line of plain text becomes the field `text_field`.
    """

    path: Path
    text_field: str
    numbers: list[int]
    sha256: str

    @classmethod
    def scan(cls, path: Path, text_field: str) -> "InputFile":
        """Read a file once; raises RequestError when it is not a .jsonl, .ndjson or .txt file, or is blank."""
        if path.suffix.lower() not in (*_JSON_LINES, ".txt"):
            raise RequestError(
                f"--input {path} is neither .jsonl (one JSON object per line) nor .txt (plain text). Rename it."
            )
        if not path.exists():
            raise RequestError(f"--input {path} does not exist. Check the path.")
        if not path.is_file():
            raise RequestError(f"--input {path} is not a regular file. Copy its content into one.")
        digest, numbers = hashlib.sha256(), []
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                digest.update(raw)
                if _content(number, raw).strip():
                    numbers.append(number)
        if not numbers:
            raise RequestError(f"--input {path} has only blank lines. Add a prompt or a text.")
        return cls(path, text_field, numbers, digest.hexdigest())

    def lines(self, after: int = 0) -> Iterator[Line]:
        """Yield the non-blank lines after line number `after`."""
        parse = self._parse_json if self.path.suffix.lower() in _JSON_LINES else self._parse_text
        with self.path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if number <= after or not (content := _content(number, raw)).strip():
                    continue
                try:
                    yield Line(number, parse(content.decode()))
                except UnicodeDecodeError as error:
                    yield Line(number, problem=f"The line is not UTF-8 at byte {error.start + 1}. Save it as UTF-8.")
                except RequestError as error:
                    yield Line(number, problem=str(error))

    def _parse_text(self, line: str) -> dict[str, Any]:
        return {self.text_field: line.removesuffix("\n").removesuffix("\r")}

    def _parse_json(self, line: str) -> dict[str, Any]:
        example = f'{{"{self.text_field}": "..."}}'
        try:
            fields = json.loads(line, object_pairs_hook=_reject_duplicates, parse_constant=_reject_constant)
        except RecursionError as error:
            raise RequestError(f"The line is nested too deeply. Write it as {example}.") from error
        except ValueError as error:
            raise RequestError(f"The line is not JSON ({error}). Write it as {example}.") from error
        if not isinstance(fields, dict):
            raise RequestError(f"The line is not a JSON object. Write it as {example}.")
        return fields


def _content(number: int, raw: bytes) -> bytes:
    return raw.removeprefix(_BYTE_ORDER_MARK) if number == 1 else raw


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("duplicate key")
    return fields


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")


_CHUNK = 1 << 20


def run_identity(command: str, source: InputFile, opened: ModelSource, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that determines the output of a run, as JSON values."""
    values = {"command": command, "input": source.sha256, "model": fingerprint(opened), "options": options}
    return json.loads(json_text(values))


def fingerprint(opened: ModelSource) -> str:
    """Return a hash of a model: of its config, its tokenizer, and the sizes and CRC-32 checksums of its files.

    This reads the files once; CRC-32 is fast enough that loading them takes longer.
    """
    digest = hashlib.sha256(json_text(asdict(opened.config)).encode())
    digest.update(opened.tokenizer.json.encode())
    adapters = opened.plan.adapters
    digest.update(json_text([adapter.scale for adapter in adapters]).encode() if adapters else b"")
    files = sorted({one.file for one in opened.plan.sources.values()})
    for file in [*files, *(path for adapter in adapters for path in adapter.files)]:
        checksum = 0
        with file.open("rb") as content:
            while chunk := content.read(_CHUNK):
                checksum = zlib.crc32(chunk, checksum)
        digest.update(f" {file.stat().st_size} {checksum}".encode())
    return digest.hexdigest()


def sidecar(output: Path) -> Path:
    """Return the path of the file beside an output that identifies its run."""
    return output.with_name(f"{output.name}.run.json")


def write_identity(output: Path, run: Mapping[str, Any], seed: int) -> None:
    """Write the sidecar of an output; raises RequestError when that fails."""
    write_text(sidecar(output), json_text({**run, "seed": seed}) + "\n")


def read_seed(output: Path, run: Mapping[str, Any], seed: int | None) -> int:
    """Return the recorded seed of an output; raises RequestError if the output belongs to a different run.

    A `seed` of None matches every recorded seed.
    """
    remedy = "Choose another --output, or add --force to replace it."
    beside = sidecar(output)
    try:
        recorded = json.loads(beside.read_bytes())
        found = int(recorded.pop("seed"))
    except FileNotFoundError as error:
        raise RequestError(
            f"{output} exists, but {beside.name}, which identifies its run, is missing. {remedy}"
        ) from error
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise RequestError(f"{beside}, which identifies the run of {output.name}, is damaged. {remedy}") from error
    if other := [name for name in run if recorded.get(name) != run[name]]:
        raise RequestError(
            f"{output} belongs to a run with a different {' and a different '.join(_named(other, recorded, run))}. "
            f"{remedy}"
        )
    if seed not in (None, found):
        raise RequestError(f"{output} belongs to a run with a different seed ({found}, now {seed}). {remedy}")
    return found


def _named(names: list[str], recorded: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    """Return the names of the parts that differ; if only the options do, the names of those, with both values."""
    if names != ["options"] or not isinstance(recorded.get("options"), dict):
        return names
    before, now = recorded["options"], run["options"]
    return [f"{name} ({before.get(name)}, now {now[name]})" for name in now if before.get(name) != now[name]] or names


Record = dict[str, Any]


class OutputFile:
    """The output file of a run, locked while it is open. Closing it removes a partial last line.

    `done` is the number of complete lines; `seed` is the seed of the run, the recorded one when it is resumed.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], *, seed: int | None = None, force: bool = False) -> None:
        """Open and lock the file without changing it; `begin` makes the first change.

        Raises RequestError when the file cannot be written, or belongs to a different run and `force` is false.
        """
        if path.exists() and not path.is_file() and not path.is_dir():
            raise RequestError(f"--output {path} is not a regular file. Give the path of a file.")
        check_writable(path)
        self.path, self.done = path, 0
        self._run, self._size, self._begun, self._created = run, 0, False, not path.exists()
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

    def resume(self, source: InputFile, on_record: Callable[[Record], None]) -> None:
        """Read the records of an earlier run and pass each to `on_record`; ignore a partial last line.

        Raises RequestError when a record does not match its input line.
        """
        if self.fresh:
            return
        with self.path.open("rb") as file:
            for at, raw in enumerate(file):
                if not raw.endswith(b"\n"):
                    break
                on_record(self._read(raw, at, source.numbers))
                self.done += 1
                self._size += len(raw)

    def begin(self) -> None:
        """Write the sidecar of a new output, and truncate the file to the complete lines."""
        self._begun = True
        if self.fresh:
            os.ftruncate(self._file, 0)
            write_identity(self.path, self._run, self.seed)
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
        self.done += 1

    def close(self) -> None:
        """Remove a partial last line, left by an error or Ctrl-C; delete a file that was created but not begun."""
        if self._file < 0:
            return
        if self._begun:
            self._truncate()
        elif self._created:
            self.path.unlink()
        os.close(self._file)
        self._file = -1

    def _truncate(self) -> None:
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
            f"Line {at + 1} of {self.path} was changed, so the run cannot be resumed. "
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
        pass  # some network file systems do not support locks
    return file
