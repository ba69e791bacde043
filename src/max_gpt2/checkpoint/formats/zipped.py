"""The zip file that PyTorch wraps around a pickle and its tensors.

PyTorch believes what is said there: how much memory an entry takes, and where its bytes start. So a few wrong bytes
could fill the memory, or shift a tensor's values.
"""

import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

#: From the start of an entry to the lengths of its name and of what follows it; its bytes come after these two.
_LENGTHS, _LOCAL_HEADER = 26, 30
_HAS_DESCRIPTOR, _DESCRIPTOR = 0x08, b"PK\x07\x08"
_IS_FOLDER = 0x10


def check_zip(path: Path) -> None:
    """Raise BadZipFile when an entry is not stored as PyTorch does: as it is, and where its header ends."""
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
        ends = [*(entry.header_offset for entry in entries[1:]), archive.start_dir]
        for entry, end in zip(entries, ends, strict=True):
            stored = entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size
            if not stored or entry.external_attr & _IS_FOLDER:
                raise zipfile.BadZipFile(f"{entry.filename} is compressed, or a folder")
            _check_place(file, entry, end)


def _check_place(file: BinaryIO, entry: zipfile.ZipInfo, end: int) -> None:
    """Refuse an entry whose bytes are not between its header and `end`, with the descriptor behind it if it has one."""
    file.seek(entry.header_offset + _LENGTHS)
    start = entry.header_offset + _LOCAL_HEADER + sum(struct.unpack("<HH", file.read(4)))
    stop = start + entry.file_size
    file.seek(max(0, stop - 4))
    before, behind = file.read(4), file.read(4)
    # The signature may be left out: the checksum comes first then.
    described = behind == _DESCRIPTOR or (behind == struct.pack("<I", entry.CRC) and before != _DESCRIPTOR)
    if stop > end or (entry.flag_bits & _HAS_DESCRIPTOR and not described):
        raise zipfile.BadZipFile(f"{entry.filename} does not lie where it should")
