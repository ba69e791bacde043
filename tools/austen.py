"""The training corpus: Jane Austen's six novels, read from Debian's package `r-cran-janeaustenr`.

The novels are in the public domain. The package stores each one as an R character vector with one printed line per
element.
"""

import re
import subprocess
import tempfile
import warnings
import zlib
from pathlib import Path

import rdata

PACKAGE = "r-cran-janeaustenr"
DATA = Path("usr/lib/R/site-library/janeaustenr/data")
NOVELS = ("emma", "mansfieldpark", "northangerabbey", "persuasion", "prideprejudice", "sensesensibility")
# A volume heading on its own line above a chapter heading is not part of the previous chapter.
_HEADING = re.compile(r"^\s*(?:chapter|volume)\s+[ivxlc\d]+\.?\s*$", re.IGNORECASE)
_CHAPTER = re.compile(r"^\s*chapter\s", re.IGNORECASE)
_END = re.compile(r"^\s*(?:the end|finis)\W*$", re.IGNORECASE)


def chapters(package_root: Path | None = None) -> list[str]:
    """Return the chapters of the six novels, with paragraphs separated by an empty line.

    `package_root` is a folder with the unpacked Debian package; by default, the package is downloaded with
    `apt-get download` and unpacked with `dpkg-deb`.
    """
    if package_root is not None:
        return _read(package_root / DATA)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True)
        (deb,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", deb, folder], check=True)
        return _read(Path(folder) / DATA)


def _read(data: Path) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rdata warns whenever it guesses the file type
        index = rdata.conversion.convert(rdata.parser.parse_data((data / "Rdata.rdx").read_bytes()))["variables"]
        database = (data / "Rdata.rdb").read_bytes()
        books = []
        for name in NOVELS:
            offset, length = (int(value) for value in index[name])
            record = zlib.decompress(database[offset + 4 : offset + length])  # the first 4 bytes are the size
            books.append([str(line) for line in rdata.conversion.convert(rdata.parser.parse_data(record))])
    return [chapter for lines in books for chapter in split_chapters(lines)]


def split_chapters(lines: list[str]) -> list[str]:
    """Split the lines of a novel into chapters, without headings, line breaks and the underscores of italics."""
    texts: list[list[str]] = []
    for line in lines:
        if _HEADING.match(line):
            if _CHAPTER.match(line):
                texts.append([])
        elif texts and not _END.match(line):  # lines before the first chapter are the title page
            texts[-1].append(line)
    joined = ("\n".join(part) for part in texts)
    return [_unwrap(text) for text in joined if text.strip()]


def _unwrap(text: str) -> str:
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return "\n\n".join(part.replace("_", "") for part in paragraphs if part)
