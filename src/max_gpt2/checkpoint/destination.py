"""Write a folder or a file atomically: completely or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from errno import EDQUOT, ENOSPC
from pathlib import Path

from max_gpt2.config import read_json
from max_gpt2.errors import ConfigError, DestinationError


def find_target(folder: str | Path, force: bool) -> Path:
    """Return the resolved path of the folder to write; raises DestinationError if it must not be written.

    The folder must not exist; with `force`, it may be empty or hold a GPT-2 checkpoint.
    """
    target = Path(os.path.realpath(os.path.expanduser(folder)))  # noqa: PTH111  (Path's own raise for ~nobody and loops)
    with report_os_errors(target):
        if not target.parent.is_dir():
            raise DestinationError(
                f"Cannot write {target}: the folder {target.parent} does not exist. Create it first."
            )
        if not os.path.lexists(target):
            return target
        if not force:
            raise DestinationError(
                f"{target} already exists. Give a new folder, or add --force to replace the checkpoint in it."
            )
        if not target.is_dir() or not _is_replaceable(target):
            raise DestinationError(
                f"{target} is neither empty nor a GPT-2 checkpoint (config.json, and no folders), so --force does not "
                "replace it. Give another folder."
            )
    return target


def find_file(path: str | Path, force: bool, magic: bytes) -> Path:
    """Return the resolved path of the file to write; raises DestinationError if it must not be written.

    The file must not exist; with `force`, it may be one that starts with `magic`.
    """
    target = Path(os.path.realpath(os.path.expanduser(path)))  # noqa: PTH111  (as above)
    with report_os_errors(target, "path"):
        if not target.parent.is_dir():
            raise DestinationError(
                f"Cannot write {target}: the folder {target.parent} does not exist. Create it first."
            )
        if not os.path.lexists(target):
            return target
        if target.is_dir():
            raise DestinationError(f"{target} is a folder. Give the path of a file, such as {target}/gpt2.gguf.")
        if not force:
            raise DestinationError(f"{target} already exists. Give a new path, or add --force to replace the file.")
        with target.open("rb") as file:
            if file.read(len(magic)) != magic:
                raise DestinationError(
                    f"{target} is not a {magic.decode()} file, so --force does not replace it. Give another path."
                )
    return target


def check_disjoint(target: Path, source: Path, others: Iterable[Path]) -> None:
    """Raise DestinationError for a target inside the source folder, or one that contains a file of the source."""
    read = Path(os.path.realpath(source))
    if read.is_dir() and read in target.parents:
        raise DestinationError(f"{target} lies inside {read}, the source of the conversion. Give a folder elsewhere.")
    for one in (source, *others):
        path = Path(os.path.realpath(one))
        if target == path or target in path.parents:
            raise DestinationError(f"{target} contains {path.name}, which the conversion reads. Give another folder.")


def check_space(target: Path, needed: int) -> None:
    """Raise DestinationError if the disk has fewer than `needed` bytes free."""
    with report_os_errors(target):
        free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise DestinationError(
            f"{target} needs {needed / 1e6:,.1f} MB, and its disk has {free / 1e6:,.1f} MB free. "
            "Free some space, or give a folder on another disk."
        )


@contextmanager
def atomic_folder(target: Path, force: bool) -> Iterator[Path]:
    """Yield a hidden folder beside `target`; rename it to `target` on success and delete it on failure.

    Raises DestinationError when writing fails, or when `target` was created by another process meanwhile.
    """
    partial = _beside(target, "partial")
    try:
        with report_os_errors(target):
            partial.mkdir()
            yield partial
            _sync(partial)
            _replace(partial, find_target(target, force))
            _sync(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def atomic_file(target: Path, force: bool, magic: bytes) -> Iterator[Path]:
    """Yield the path of a hidden file beside `target`; rename it to `target` on success and delete it on failure.

    Raises DestinationError when writing fails, or when `target` was created by another process meanwhile.
    """
    partial = _beside(target, "partial")
    try:
        with report_os_errors(target, "path"):
            yield partial
            _sync(partial)
            partial.replace(find_file(target, force, magic))
            _sync(target.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def report_os_errors(target: Path, kind: str = "folder") -> Iterator[None]:
    """Raise DestinationError instead of OSError; `kind` says what to give instead, a "folder" or a "path"."""
    try:
        yield
    except OSError as error:
        # numpy reports a full disk without a code.
        full = error.errno in (ENOSPC, EDQUOT, None)
        remedy = "Free some space, or give" if full else "Check its permissions, or give"
        reason = error.strerror or str(error)
        raise DestinationError(f"{target} was not written ({reason}). {remedy} a {kind} elsewhere.") from error


def write_synced(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write a new file and flush it to the disk."""
    with path.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _is_replaceable(folder: Path) -> bool:
    entries = list(folder.iterdir())
    if not entries or any(one.is_dir() for one in entries):
        return not entries
    try:
        return read_json(folder / "config.json").get("model_type") == "gpt2"
    except ConfigError:
        return False


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(f".{target.name}.{suffix}-{secrets.token_hex(4)}")


def _replace(partial: Path, target: Path) -> None:
    """Rename the partial folder to `target`; an existing folder is renamed first, and restored if that fails."""
    if not target.exists():
        partial.rename(target)
        return
    old = _beside(target, "replaced")
    target.rename(old)
    try:
        partial.rename(target)
    except BaseException:
        old.rename(target)
        raise
    try:
        shutil.rmtree(old)
    except OSError as error:
        raise DestinationError(
            f"{target} is written, but the folder it replaces could not be deleted. Delete {old}."
        ) from error


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk, if the file system supports that."""
    descriptor = os.open(path, os.O_RDONLY)
    with suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)
