"""A folder that is written whole or not at all."""

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
    """Return where the folder is going to be, links followed; raises DestinationError when it must not be there.

    With `force` an empty folder and one with a GPT-2 checkpoint may be replaced, and nothing else.
    """
    target = Path(os.path.realpath(os.path.expanduser(folder)))  # noqa: PTH111  (Path's own raise for ~nobody and loops)
    with refused_by_name(target):
        if not target.parent.is_dir():
            raise DestinationError(f"There is no folder {target.parent} to write {target.name} into. Make it first.")
        if not os.path.lexists(target):
            return target
        if not force:
            raise DestinationError(
                f"{target} exists. Give a folder that does not, or add --force to replace the checkpoint in it."
            )
        if not target.is_dir() or not _is_replaceable(target):
            raise DestinationError(
                f"{target} is neither empty nor a GPT-2 checkpoint (config.json, and no folders), so --force does not "
                "replace it. Give another folder."
            )
    return target


def check_apart(target: Path, source: Path, others: Iterable[Path]) -> None:
    """Refuse a target within the folder that is read, and one that holds anything that is read."""
    read = Path(os.path.realpath(source))
    if read.is_dir() and read in target.parents:
        raise DestinationError(f"{target} lies inside {read}, the source of the conversion. Give a folder elsewhere.")
    for one in (source, *others):
        path = Path(os.path.realpath(one))
        if target == path or target in path.parents:
            raise DestinationError(f"{target} contains {path.name}, which the conversion reads. Give another folder.")


def check_space(target: Path, needed: int) -> None:
    """Raise DestinationError if the disk has fewer than `needed` bytes free."""
    with refused_by_name(target):
        free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise DestinationError(
            f"{target} needs {needed / 1e6:,.1f} MB, and its disk has {free / 1e6:,.1f} MB free. "
            "Free some space, or give a folder on another disk."
        )


@contextmanager
def written_whole(target: Path, force: bool) -> Iterator[Path]:
    """Yield a hidden folder beside `target`, and put it into its place when all has gone well; else remove it.

    Raises DestinationError for what the disk refuses, and when somebody else has made a folder there by then.
    """
    partial = _beside(target, "partial")
    try:
        with refused_by_name(target):
            partial.mkdir()
            yield partial
            _sync(partial)
            _put(partial, find_target(target, force))
            _sync(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def refused_by_name(target: Path) -> Iterator[None]:
    """Make one sentence of what the disk refuses."""
    try:
        yield
    except OSError as error:
        remedy = "Free some space, or give" if error.errno in (ENOSPC, EDQUOT) else "Check its permissions, or give"
        reason = error.strerror or str(error)
        raise DestinationError(f"{target} was not written ({reason}). {remedy} a folder elsewhere.") from error


def write_synced(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write a new file, and wait until it is on the disk."""
    with path.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _is_replaceable(folder: Path) -> bool:
    inside = list(folder.iterdir())
    if not inside or any(one.is_dir() for one in inside):
        return not inside
    try:
        return read_json(folder / "config.json").get("model_type") == "gpt2"
    except ConfigError:
        return False


def _beside(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.{what}-{secrets.token_hex(4)}")


def _put(partial: Path, target: Path) -> None:
    """Give the partial folder its name; a folder that is there already steps aside, and comes back if that fails."""
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
        raise DestinationError(f"{target} is written, but what it replaces is left in {old}. Delete it.") from error


def _sync(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, if the file system can do that."""
    descriptor = os.open(folder, os.O_RDONLY)
    with suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)
