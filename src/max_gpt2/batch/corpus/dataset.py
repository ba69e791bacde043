"""Find the files of an input: a file, a folder or a glob, on a local path or a URI of pyarrow's file systems."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
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
#: Without a limit, Google's library retries for a quarter of an hour, also without a network.
_GCS_SECONDS = 60
#: A reason that is longer than this ends after its first sentence.
_LONG = 200
_REMOTE_REMEDY = "Check the address, the network and the credentials."
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
        prefix: The root as it was given, without credentials, before the names in messages.

    """

    spec: str
    filesystem: "pyarrow.fs.FileSystem"
    root: str
    names: tuple[str, ...]
    ignored: tuple[str, ...]
    prefix: str = ""

    def path(self, name: str) -> str:
        """Return the path of a file on the file system."""
        return f"{self.root.rstrip('/')}/{name}" if self.root else name

    def label(self, name: str) -> str:
        """Return a file as messages name it."""
        return f"{self.prefix}{name}"


def is_uri(spec: str) -> bool:
    """Return whether an input or output is a URI, such as s3://bucket/folder."""
    return _URI.match(spec) is not None


def open_uri(uri: str) -> tuple["pyarrow.fs.FileSystem", str]:
    """Return the file system of a URI and the path on it; raises RequestError when it cannot be opened."""
    require_pyarrow(without_credentials(uri))
    from pyarrow.fs import FileSystem

    failures: tuple[type[Exception], ...] = (*read_errors(), ValueError, ImportError)
    base, query = _split_query(uri)
    if base.startswith(("gs://", "gcs://")) and "retry_limit_seconds" not in query:
        query += f"{'&' if query else '?'}retry_limit_seconds={_GCS_SECONDS}"
    try:
        return FileSystem.from_uri(quote(base, safe=_SAFE_IN_URI) + query)
    except failures as error:
        raise RequestError(
            f"{without_credentials(uri)} cannot be opened ({reason(error)}). {_REMOTE_REMEDY}"
        ) from error


def without_credentials(uri: str) -> str:
    """Return a URI without a user, a password and options."""
    base, _ = _split_query(uri) if is_uri(uri) else (uri, "")
    return re.sub(r"(?<=://)[^/@]*@", "", base) if is_uri(uri) else base


def read_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions by which a file system or a file format reports that something cannot be read."""
    from httpx import HTTPError  # of hf:// addresses
    from pyarrow import ArrowException

    return OSError, ArrowException, UnicodeDecodeError, HTTPError  # the third: of a column's name


def reason(error: Exception) -> str:
    """Return the message of a file system as part of a sentence: its first line without details and full stop."""
    lines = (getattr(error, "strerror", None) or str(error)).strip().splitlines()
    text = re.split(r"; Details: | error_info=\{", lines[0])[0] if lines else type(error).__name__
    text = re.sub(r"^google::cloud::Status\((\w+): (?:.*with a last message of )?", r"\1: ", text)
    return (text if len(text) < _LONG else text.split(". ")[0]).rstrip(".")


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
    if filesystem is None and Path(spec).is_file():
        _check_suffix(shown)  # before pyarrow is needed
    require_pyarrow(f"--input {shown}")
    from pyarrow.fs import LocalFileSystem

    try:
        if filesystem is not None:
            return _find(spec, filesystem, spec)
        if is_uri(spec):
            return _find_uri(spec)
        return _find(spec, LocalFileSystem(), os.path.abspath(spec))  # noqa: PTH100 (a symbolic link stays as it is)
    except read_errors() as error:
        remedy = _REMOTE_REMEDY if is_uri(spec) else "Check the path and its permissions."
        raise InputError(f"--input {shown} cannot be read ({reason(error)}). {remedy}") from error


def check_outside(spec: str, output: str | Path) -> None:
    """Raise RequestError if the next run would read the output, a file or a folder of parts, as its input."""
    path, target = os.path.realpath(spec), os.path.realpath(output)
    if is_uri(spec) or is_uri(str(output)):
        inside = str(output).startswith(f"{_split_query(spec)[0].rstrip('/')}/")
    elif Path(spec).is_dir():
        inside = target.startswith(f"{path.rstrip('/')}/") and not _is_hidden(os.path.relpath(target, path))
    elif has_wildcard(spec) and not Path(spec).exists():
        folder, pattern = split_glob(os.path.abspath(spec))  # noqa: PTH100
        name = os.path.relpath(target, os.path.realpath(folder))
        inside = any(map(compile_glob(pattern), (name, f"{name}/part-0.parquet", f"{name}/part-0.jsonl")))
    else:
        inside = False
    if inside:
        raise RequestError(f"--output {output} is inside --input {spec}. Choose one outside of it.")


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
        _check_suffix(shown)
        prefix = shown[: shown.rfind("/") + 1]
        return Dataset(spec, filesystem, folder or path[: len(path) - len(name)], (name,), (), prefix)
    if type_ == FileType.Directory:
        return _folder(spec, filesystem, path.rstrip("/") or path[:1])
    if type_ == FileType.Unknown:
        raise RequestError(f"--input {shown} is not a regular file. Copy its content into one.")
    if not has_wildcard(path):
        raise RequestError(f"--input {shown} does not exist. Check the path.")
    root, pattern = split_glob(path)
    root = root.rstrip("/") or root
    matches = compile_glob(pattern)
    found = [one for one in _list(filesystem, root, recursive="/" in pattern or "**" in pattern) if matches(one)]
    names = sorted(one for one in found if file_format(one))
    if not found:
        raise RequestError(f"--input {shown} matches no file. Check the pattern.")
    if not names:
        raise RequestError(f"--input {shown} matches no file that is one of {SUFFIXES}. Check the pattern.")
    ignored = tuple(sorted(set(found) - set(names)))
    return Dataset(spec, filesystem, root, tuple(names), ignored, split_glob(shown)[0])


def _check_suffix(shown: str) -> None:
    if file_format(shown) is None:
        raise RequestError(f"--input {shown} is none of {SUFFIXES}. Rename it.")


def _folder(spec: str, filesystem: "pyarrow.fs.FileSystem", root: str) -> Dataset:
    shown = without_credentials(spec)
    found = [one for one in _list(filesystem, root, recursive=True) if not _is_hidden(one)]
    dataset = Dataset(spec, filesystem, root, (), (), f"{shown.rstrip('/')}/" if shown else "")
    for name in found:
        if name.rpartition("/")[2] == _SPLITS:
            splits = ", ".join(_read_names(dataset, name, "splits"))
            folder = dataset.label(name).rpartition("/")[0]
            raise RequestError(
                f"--input {folder} is a saved DatasetDict with the splits {splits}. Give the folder of one of them."
            )
    beside, other = _saved_files(dataset, found)
    names = sorted(one for one in found if file_format(one) and one not in beside and one not in other)
    if not names:
        raise RequestError(f"--input {shown} has no file that is one of {SUFFIXES}. Check the path.")
    return replace(dataset, names=tuple(names), ignored=tuple(sorted(set(found) - set(names) - beside)))


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
        if file == _STATE and (data := _read_names(dataset, name, "_data_files")):
            other |= {one for one in arrow[folder] if one.rpartition("/")[2] not in data}
    return beside, other


def _read_names(dataset: Dataset, name: str, key: str) -> list[str]:
    """Return the names of splits or of files that a description lists; raises InputError if it is damaged."""
    with dataset.filesystem.open_input_stream(dataset.path(name)) as file:
        content = file.read()
    try:
        listed = json.loads(content).get(key, [])
        return [one if isinstance(one, str) else str(one["filename"]) for one in listed]
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise InputError(f"--input {dataset.label(name)} is damaged. Save the dataset again.") from error


def _list(filesystem: "pyarrow.fs.FileSystem", root: str, *, recursive: bool) -> list[str]:
    """Return the names of all files in a folder, relative to it; none if it does not exist."""
    from pyarrow.fs import FileSelector, FileType

    if filesystem.type_name == "local":
        return list(_list_local(root, recursive=recursive))
    found = filesystem.get_file_info(FileSelector(root, allow_not_found=True, recursive=recursive))
    start = len(f"{root.rstrip('/')}/") if root else 0
    return [one.path[start:] for one in found if one.type == FileType.File]


def _list_local(root: str, *, recursive: bool) -> Iterator[str]:
    """Yield the names of the files in a local folder; it follows symbolic links, but not those to a folder above."""

    def fail(error: OSError) -> None:
        if error.filename != root or not isinstance(error, FileNotFoundError):
            raise error

    for folder, folders, files in os.walk(root, onerror=fail, followlinks=True):
        inside = os.path.realpath(folder)
        folders[:] = [
            one
            for one in folders
            if recursive and not f"{inside}/".startswith(f"{os.path.realpath(f'{folder}/{one}').rstrip('/')}/")
        ]
        for file in files:
            path = f"{folder}/{file}"
            if Path(path).is_file():
                try:
                    yield os.path.relpath(path, root).encode().decode()
                except UnicodeEncodeError as error:
                    raise RequestError(
                        f"The name of {path} in --input {root} is not UTF-8. Rename the file."
                    ) from error


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))
