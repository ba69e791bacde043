"""The output folder of a corpus run: files that appear completely or not at all, and claims of parts."""

import errno
import fcntl
import hashlib
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from max_gpt2.batch.corpus.dataset import is_uri, open_uri
from max_gpt2.errors import RequestError

if TYPE_CHECKING:
    import pyarrow.fs


#: Seconds until a claim that another process has is tried again.
_WAIT = 0.01


class OutputError(RequestError):
    """An output folder that cannot be written, for example because the disk is full. No later part can be either."""


class HashingSink:
    """A binary file for writing that counts its bytes and computes their SHA-256."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest, self.size, self.closed = file, hashlib.sha256(), 0, False

    def write(self, content: bytes) -> int:
        """Write bytes; raises OSError."""
        view = memoryview(content)
        self._file.write(view)
        self._digest.update(view)
        self.size += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self.size

    def flush(self) -> None:
        """Do nothing; `Claim.commit` flushes the file."""

    def close(self) -> None:
        """Do nothing; the claim closes the file."""

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes written, in hexadecimal."""
        return self._digest.hexdigest()


class Claim(Protocol):
    """The right to write one file of a folder, which no other process has at the same time."""

    sink: HashingSink

    def commit(self) -> None:
        """Flush the file and give it its name; raises OSError."""
        ...

    def abandon(self) -> None:
        """Delete what was written, unless it was committed, and give up the claim."""
        ...


class Folder(Protocol):
    """A folder on a local disk or a remote file system; paths of files are relative to it."""

    location: str

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if it does not exist. Raises OutputError."""
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Write a file, completely or not at all, unless it exists; return whether this call created it."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write or replace a file, completely or not at all."""
        ...

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        ...

    def sizes(self, subfolder: str = "") -> dict[str, int]:
        """Return the sizes of the files by name, without hidden ones; empty if there is no such folder."""
        ...

    def size(self, name: str) -> int | None:
        """Return the size of a file; None if it does not exist."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """Return a file, open for reading bytes; raises OSError."""
        ...

    def claim(self, name: str) -> Claim | None:
        """Claim a file; None if another process has claimed it. Raises OutputError."""
        ...


def open_folder(location: str) -> Folder:
    """Open a folder by its path or URI; the first write creates it."""
    if is_uri(location):
        filesystem, path = open_uri(location)
        return RemoteFolder(location, filesystem, path)
    return LocalFolder(Path(location))


def hidden(name: str) -> str:
    """Return the name of the hidden file that becomes the file `name`."""
    return f".{name}.work"


@contextmanager
def _writing(location: str) -> Iterator[None]:
    """Turn an OSError into OutputError."""
    try:
        yield
    except OSError as error:
        raise output_error(location, error) from error


def output_error(location: str, error: OSError) -> OutputError:
    """Return the error for a folder that cannot be read or written."""
    remedy = "Free some disk space" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "Check --output"
    reason = error.strerror or str(error)
    return OutputError(f"{location} cannot be written ({reason}). {remedy} and run the same command again to resume.")


class LocalFolder:
    """A folder on a disk of this machine, or on a network file system that is mounted."""

    def __init__(self, path: Path) -> None:
        self.path, self.location = path, str(path)

    def read(self, name: str) -> bytes | None:
        """See `Folder`."""
        with _writing(self.location):
            try:
                return (self.path / name).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def create(self, name: str, content: bytes) -> bool:
        """See `Folder`."""
        with _writing(self.location):
            return self._write(name, content, replace=False)

    def write(self, name: str, content: bytes) -> None:
        """See `Folder`."""
        with _writing(self.location):
            self._write(name, content, replace=True)

    def _write(self, name: str, content: bytes, *, replace: bool) -> bool:
        """Write a file under a claim, so that what a killed process leaves is written over by the next one."""
        while (claim := LocalClaim.take(self.path / name)) is None:
            time.sleep(_WAIT)
        try:
            if not replace and (self.path / name).exists():
                return False
            claim.sink.write(content)
            claim.commit()
            return True
        finally:
            claim.abandon()

    def delete(self, name: str) -> None:
        """See `Folder`."""
        with _writing(self.location):
            (self.path / name).unlink(missing_ok=True)

    def sizes(self, subfolder: str = "") -> dict[str, int]:
        """See `Folder`."""
        found = {}
        with _writing(self.location), suppress(FileNotFoundError), os.scandir(self.path / subfolder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    with suppress(FileNotFoundError):  # deleted in between
                        found[entry.name] = entry.stat().st_size if entry.is_file() else 0
        return found

    def size(self, name: str) -> int | None:
        """See `Folder`."""
        with _writing(self.location):
            try:
                return (self.path / name).stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def open(self, name: str) -> IO[bytes]:
        """See `Folder`."""
        return (self.path / name).open("rb")

    def claim(self, name: str) -> "LocalClaim | None":
        """See `Folder`."""
        with _writing(self.location):
            return LocalClaim.take(self.path / name)


class LocalClaim:
    """A claim by a lock on the hidden file, which the kernel releases when the process ends in any way."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file, self._committed = path, file, False
        self.sink = HashingSink(file)

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """Create or reuse the hidden file and lock it; None if another process has it. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        work = path.with_name(hidden(path.name))
        while True:
            file = os.fdopen(os.open(work, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return None
            except OSError:
                pass  # some network file systems do not support locks
            if _is_same(file, work):
                file.truncate(0)
                return cls(path, file)
            file.close()  # its run has renamed or deleted it in between

    def commit(self) -> None:
        """See `Claim`."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._path.with_name(hidden(self._path.name)).replace(self._path)
        self._committed = True

    def abandon(self) -> None:
        """See `Claim`."""
        if not self._committed and not self._file.closed:
            self._path.with_name(hidden(self._path.name)).unlink(missing_ok=True)
        with suppress(OSError):  # a full disk: the buffer cannot be written, and the file is deleted
            self._file.close()


def _is_same(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


class RemoteFolder:
    """A folder on a file system of `pyarrow.fs`, such as S3. It has no locks: give each process its own shard."""

    def __init__(self, location: str, filesystem: "pyarrow.fs.FileSystem", path: str) -> None:
        self.location, self._filesystem, self._path = location, filesystem, path.rstrip("/")

    def read(self, name: str) -> bytes | None:
        """See `Folder`."""
        with _writing(self.location):
            try:
                with self.open(name) as file:
                    return bytes(file.read())
            except FileNotFoundError:
                return None

    def create(self, name: str, content: bytes) -> bool:
        """See `Folder`; two processes at the same time may both believe to be the first."""
        if self.read(name) is not None:
            return False
        self.write(name, content)
        return True

    def write(self, name: str, content: bytes) -> None:
        """See `Folder`."""
        with _writing(self.location):
            claim = RemoteClaim(self._filesystem, self._at(name))
            try:
                claim.sink.write(content)
                claim.commit()
            finally:
                claim.abandon()

    def delete(self, name: str) -> None:
        """See `Folder`."""
        with _writing(self.location), suppress(FileNotFoundError):
            self._filesystem.delete_file(self._at(name))

    def sizes(self, subfolder: str = "") -> dict[str, int]:
        """See `Folder`."""
        from pyarrow.fs import FileSelector, FileType

        with _writing(self.location):
            found = self._filesystem.get_file_info(FileSelector(self._at(subfolder), allow_not_found=True))
        return {
            one.base_name: one.size if one.type == FileType.File else 0
            for one in found
            if not one.base_name.startswith(".")
        }

    def size(self, name: str) -> int | None:
        """See `Folder`."""
        from pyarrow.fs import FileType

        with _writing(self.location):
            found = self._filesystem.get_file_info(self._at(name))
        return found.size if found.type == FileType.File else None

    def open(self, name: str) -> IO[bytes]:
        """See `Folder`."""
        file: Any = self._filesystem.open_input_file(self._at(name))
        return io.BufferedReader(file)

    def claim(self, name: str) -> "RemoteClaim":
        """See `Folder`; there is no lock."""
        with _writing(self.location):
            return RemoteClaim(self._filesystem, self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}" if name else self._path


class RemoteClaim:
    """A hidden file of this process only: two processes that write the same part write the same bytes."""

    def __init__(self, filesystem: "pyarrow.fs.FileSystem", path: str) -> None:
        folder, _, name = path.rpartition("/")
        self._filesystem, self._path = filesystem, path
        self._work = f"{folder}/{hidden(name)}.{os.urandom(6).hex()}"
        filesystem.create_dir(folder, recursive=True)
        self._file = filesystem.open_output_stream(self._work)
        self._committed = False
        self.sink = HashingSink(self._file)

    def commit(self) -> None:
        """See `Claim`."""
        self._file.close()
        self._filesystem.move(self._work, self._path)
        self._committed = True

    def abandon(self) -> None:
        """See `Claim`."""
        if not self._committed:
            with suppress(OSError):
                self._file.close()
            with suppress(OSError):
                self._filesystem.delete_file(self._work)
