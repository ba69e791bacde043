"""A Hugging Face cache as the hub's client fills it: blobs by their hash, snapshots of symlinks, a ref."""

import hashlib
import shutil
from pathlib import Path

COMMIT = "607a30d783dfa663caf39e06633721c8d4cfcd7e"


def fill_cache(cache: Path, repo: str, folder: Path) -> Path:
    """Put the files of `folder` into the cache as the newest snapshot of `repo`; return the snapshot's folder."""
    home = cache / f"models--{repo.replace('/', '--')}"
    snapshot = home / "snapshots" / COMMIT
    (home / "blobs").mkdir(parents=True)
    (home / "refs").mkdir()
    snapshot.mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    for path in folder.iterdir():
        blob = home / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copyfile(path, blob)
        (snapshot / path.name).symlink_to(Path("../..") / "blobs" / blob.name)
    return snapshot
