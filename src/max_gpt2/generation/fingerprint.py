"""A hash that identifies a model by everything that its outputs depend on."""

import hashlib
import zlib
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

from max_gpt2._files import json_text
from max_gpt2.generation.engine import ModelSource

#: Bytes that are read at a time.
_CHUNK = 1 << 20


def fingerprint(opened: ModelSource) -> str:
    """Return a hash of everything that the outputs of a model depend on.

    That is its config, tokenizer and adapters, the types its weights are rounded to, and the sizes and checksums of its
    files.

    The first call reads the files, with CRC-32, which is fast enough that loading them takes longer. Later calls in the
    same process read only files that have changed.
    """
    digest = hashlib.sha256(json_text(asdict(opened.config)).encode())
    digest.update(opened.tokenizer.json.encode())
    adapters = opened.plan.adapters
    digest.update(json_text([adapter.scale for adapter in adapters]).encode() if adapters else b"")
    if rounded := opened.plan.rounded:  # the types that keep the values give the same outputs
        digest.update(json_text(rounded).encode())
    files = sorted({one.file for one in opened.plan.sources.values()})
    for file in [*files, *(path for adapter in adapters for path in adapter.files)]:
        status = file.stat()
        digest.update(f" {status.st_size} {_checksum(file, status.st_size, status.st_mtime_ns)}".encode())
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _checksum(file: Path, _size: int, _mtime_ns: int) -> int:
    """Return the CRC-32 of a file; size and time of the last change are part of the key of the cache."""
    checksum = 0
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
