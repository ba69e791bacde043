"""Find the files of an input: a file, a folder or a glob, on a local path or a URI of pyarrow's file systems."""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from max_gpt2.batch.corpus.formats import SUFFIXES, file_format
from max_gpt2.batch.corpus.globs import compile_glob, has_wildcard, split_glob
from max_gpt2.batch.parquet import require_pyarrow
from max_gpt2.errors import InputError, RequestError

if TYPE_CHECKING:
    import pyarrow.fs

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
#: The options of a file system at the end of a URI; any other question mark is a wildcard.
_QUERY = re.compile(r"\?[A-Za-z_]+=[^?*\[\]]*$")
_SAFE_IN_URI = "%/:@!$&'()*+,;=~-._"
#: Files that `datasets.Dataset.save_to_disk` writes beside its .arrow files.
_STATE, _INFO, _SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"


@dataclass(frozen=True)
class Dataset:
    """The files of an input, sorted by name.

    Attributes:
        spec: The input as it was given.
        filesystem: The file system that the files are on.
        root: The folder that the names are relative to; of a single file, its folder.
        names: The names of the files.
        ignored: The names of the other files: those with an unknown suffix.

    """

    spec: str
    filesystem: "pyarrow.fs.FileSystem"
    root: str
    names: tuple[str, ...]
    ignored: tuple[str, ...]

    def path(self, name: str) -> str:
        """Return the path of a file on the file system."""
        return f"{self.root.rstrip('/')}/{name}" if self.root else name

    def label(self, name: str) -> str:
        """Return a file as messages name it: its path or its URI, without credentials."""
        scheme = "" if self.filesystem.type_name == "local" or not is_uri(self.spec) else self.spec.split("://")[0]
        return f"{scheme}://{self.path(name)}" if scheme else self.path(name)


def is_uri(spec: str) -> bool:
    """Return whether an input or output is a URI, such as s3://bucket/folder."""
    return _URI.match(spec) is not None


def open_uri(uri: str) -> tuple["pyarrow.fs.FileSystem", str]:
    """Return the file system of a URI and the path on it; raises RequestError when it cannot be opened."""
    require_pyarrow(without_credentials(uri))
    from pyarrow import ArrowException
    from pyarrow.fs import FileSystem

    base, query = _split_query(uri)
    try:
        return FileSystem.from_uri(quote(base, safe=_SAFE_IN_URI) + query)
    except (OSError, ValueError, ArrowException, ImportError) as error:
        raise RequestError(
            f"{without_credentials(uri)} cannot be opened ({reason(error)}). Check the address, the network and the "
            "credentials."
        ) from error


def without_credentials(uri: str) -> str:
    """Return a URI without a user, a password and options."""
    base, _ = _split_query(uri) if is_uri(uri) else (uri, "")
    return re.sub(r"(?<=://)[^/@]*@", "", base) if is_uri(uri) else base


def reason(error: Exception) -> str:
    """Return the message of a file system as part of a sentence: its first line, without a final full stop."""
    strerror = getattr(error, "strerror", None)
    lines = (strerror or str(error)).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _split_query(uri: str) -> tuple[str, str]:
    found = _QUERY.search(uri)
    return (uri[: found.start()], found[0]) if found else (uri, "")


def find_dataset(spec: str | Path, filesystem: "pyarrow.fs.FileSystem | None" = None) -> Dataset:
    """Find the files of an input: of a file, a folder with its subfolders, or a glob with *, ?, [...] and **.

    A URI names its file system; a path is local unless there is a `filesystem`. Raises RequestError if there is no
    file, a single file has an unknown suffix, the folder is a saved DatasetDict, or the file system cannot be read,
    and MissingExtraError without pyarrow.
    """
    spec = str(spec)
    shown = without_credentials(spec)
    require_pyarrow(f"--input {shown}")
    from pyarrow import ArrowException
    from pyarrow.fs import LocalFileSystem

    try:
        if filesystem is not None:
            return _find(spec, filesystem, spec)
        if is_uri(spec):
            return _find_uri(spec)
        return _find(spec, LocalFileSystem(), os.path.abspath(spec))  # noqa: PTH100 (a symbolic link stays as it is)
    except (OSError, ArrowException) as error:
        raise InputError(
            f"--input {shown} cannot be read ({reason(error)}). Check the address, the network and the credentials."
            if is_uri(spec)
            else f"--input {shown} cannot be read ({reason(error)}). Check the path and its permissions."
        ) from error


def _find_uri(spec: str) -> Dataset:
    base, query = _split_query(spec)
    if not has_wildcard(base.partition("://")[2]):
        return _find(spec, *open_uri(spec))
    scheme, _, rest = base.partition("://")
    folder, pattern = split_glob(rest)
    filesystem, root = open_uri(f"{scheme}://{folder}{query}")
    return _find(spec, filesystem, f"{root.rstrip('/')}/{unquote(pattern)}")


def _find(spec: str, filesystem: "pyarrow.fs.FileSystem", path: str) -> Dataset:
    from pyarrow.fs import FileType

    shown = without_credentials(spec)
    type_ = filesystem.get_file_info(path).type
    if type_ == FileType.File:
        folder, _, name = path.rpartition("/")
        if file_format(name) is None:
            raise RequestError(f"--input {shown} is none of {SUFFIXES}. Rename it.")
        return Dataset(spec, filesystem, folder or path[: len(path) - len(name)], (name,), ())
    if type_ == FileType.Directory:
        return _folder(spec, filesystem, path.rstrip("/") or "/")
    if type_ == FileType.Unknown:
        raise RequestError(f"--input {shown} is not a regular file. Copy its content into one.")
    if not has_wildcard(path):
        raise RequestError(f"--input {shown} does not exist. Check the path.")
    root, pattern = split_glob(path)
    root = root.rstrip("/") or root
    matches = compile_glob(pattern)
    found = [one for one in _list(filesystem, root, recursive="/" in pattern or "**" in pattern) if matches(one)]
    names = sorted(one for one in found if file_format(one))
    if not names:
        raise RequestError(f"--input {shown} matches no file that is one of {SUFFIXES}. Check the pattern.")
    return Dataset(spec, filesystem, root, tuple(names), tuple(sorted(set(found) - set(names))))


def _folder(spec: str, filesystem: "pyarrow.fs.FileSystem", root: str) -> Dataset:
    shown = without_credentials(spec)
    found = [one for one in _list(filesystem, root, recursive=True) if not _is_hidden(one)]
    dataset = Dataset(spec, filesystem, root, (), ())
    for name in found:
        if name.rpartition("/")[2] == _SPLITS:
            splits = ", ".join(map(str, _read_json(dataset, name).get("splits", ())))
            folder = f"{shown.rstrip('/')}/{name}".rpartition("/")[0]
            raise RequestError(
                f"--input {folder} is a saved DatasetDict with the splits {splits}. Give the folder of one of them."
            )
    beside, other = _saved_files(dataset, found)
    names = sorted(one for one in found if file_format(one) and one not in beside and one not in other)
    if not names:
        raise RequestError(f"--input {shown} has no file that is one of {SUFFIXES}. Check the path.")
    return Dataset(spec, filesystem, root, tuple(names), tuple(sorted(set(found) - set(names) - beside)))


def _saved_files(dataset: Dataset, found: Iterable[str]) -> tuple[set[str], set[str]]:
    """Return the descriptions of saved datasets, and the .arrow files beside them that are not theirs (caches)."""
    arrow: dict[str, set[str]] = {}
    for name in found:
        if name.lower().endswith(".arrow"):
            arrow.setdefault(name.rpartition("/")[0], set()).add(name)
    beside = {name for name in found if name.rpartition("/")[2] in (_STATE, _INFO) and name.rpartition("/")[0] in arrow}
    other = set[str]()
    for name in beside:
        folder, _, file = name.rpartition("/")
        if file == _STATE:
            data = {one["filename"] for one in _read_json(dataset, name).get("_data_files", ())}
            if data:
                other |= {one for one in arrow[folder] if one.rpartition("/")[2] not in data}
    return beside, other


def _read_json(dataset: Dataset, name: str) -> dict[str, Any]:
    with dataset.filesystem.open_input_stream(dataset.path(name)) as file:
        content = file.read()
    try:
        values = json.loads(content)
        if isinstance(values, dict):
            return values
    except ValueError:
        pass
    raise InputError(f"--input {dataset.label(name)} is damaged: it is not a JSON object. Save the dataset again.")


def _list(filesystem: "pyarrow.fs.FileSystem", root: str, *, recursive: bool) -> list[str]:
    """Return the names of all files in a folder, relative to it; none if it does not exist."""
    from pyarrow.fs import FileSelector, FileType

    found = filesystem.get_file_info(FileSelector(root, allow_not_found=True, recursive=recursive))
    start = len(f"{root.rstrip('/')}/") if root else 0
    return [one.path[start:] for one in found if one.type == FileType.File]


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))
