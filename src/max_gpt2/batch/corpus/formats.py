"""The formats of input files by their suffixes."""

from dataclasses import dataclass
from typing import Literal

_JSON_LINES = (".jsonl", ".ndjson", ".json")
#: All suffixes, as a message lists them.
SUFFIXES = ".jsonl, .ndjson, .json (JSON lines), .txt, .parquet and .arrow; but for the last two also with .gz or .zst"


@dataclass(frozen=True)
class FileFormat:
    """The format of a file.

    Attributes:
        kind: JSON lines, a text per line, Parquet, or an Arrow IPC stream or file.
        compression: The name of pyarrow's codec, of a compressed file.

    """

    kind: Literal["json", "text", "parquet", "arrow"]
    compression: Literal["gzip", "zstd"] | None = None

    @property
    def has_lines(self) -> bool:
        """True if each row is a line."""
        return self.kind in ("json", "text")


def file_format(name: str) -> FileFormat | None:
    """Return the format of a file by its name, in any case; None for an unknown suffix."""
    lower = name.lower()
    if lower.endswith(".parquet"):
        return FileFormat("parquet")
    if lower.endswith(".arrow"):
        return FileFormat("arrow")
    compression: Literal["gzip", "zstd"] | None = None
    if lower.endswith(".gz"):
        compression, lower = "gzip", lower.removesuffix(".gz")
    elif lower.endswith(".zst"):
        compression, lower = "zstd", lower.removesuffix(".zst")
    if lower.endswith(_JSON_LINES):
        return FileFormat("json", compression)
    return FileFormat("text", compression) if lower.endswith(".txt") else None


def known_format(name: str) -> FileFormat:
    """Return the format of a file of a dataset, whose suffix is known."""
    format_ = file_format(name)
    if format_ is None:
        raise ValueError(f"{name} has an unknown suffix")
    return format_
