"""The output folder: files appear completely or not at all, and one process writes a part."""

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from max_gpt2.batch.corpus.folder import Folder, LocalFolder, OutputError, open_folder, output_error


@pytest.fixture(params=["local", "remote"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """A folder that does not exist yet, by its path and by its URI."""
    path = tmp_path / "a folder" / "out"
    return open_folder(str(path) if request.param == "local" else f"file://{path}")


def names(folder: Folder, tmp_path: Path) -> list[str]:
    """Return all files of the folder, the hidden ones included."""
    del folder
    return sorted(path.name for path in (tmp_path / "a folder" / "out").rglob("*") if path.is_file())


def test_files_are_created_once_and_replaced_whole(folder: Folder, tmp_path: Path) -> None:
    assert (folder.read("a.json"), folder.sizes(), folder.size("a.json")) == (None, {}, None)
    assert folder.create("a.json", b"one")
    assert not folder.create("a.json", b"two")
    assert folder.read("a.json") == b"one"
    folder.write("m/b.json", b"three")
    folder.write("a.json", b"four!")
    assert folder.read("a.json") == b"four!"
    assert {name: size for name, size in folder.sizes().items() if name != "m"} == {"a.json": 5}
    assert folder.sizes("m") == {"b.json": 5}
    with folder.open("m/b.json") as file:
        assert list(file) == [b"three"]
    folder.delete("a.json")
    folder.delete("a.json")
    assert names(folder, tmp_path) == ["b.json"]


def test_killed_write_leaves_nothing_after_the_next_one(tmp_path: Path) -> None:
    program = """
import os, sys
from max_gpt2.batch.corpus.folder import LocalFolder

os.fsync = lambda _: os.kill(os.getpid(), 9)
LocalFolder(__import__("pathlib").Path(sys.argv[1])).write("m/b.json", b"the first")
"""
    folder = LocalFolder(tmp_path)
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=dict(os.environ), check=False)
    assert folder.read("m/b.json") is None
    assert len(list((tmp_path / "m").iterdir())) == 1
    folder.write("m/b.json", b"2nd")
    assert [path.read_bytes() for path in (tmp_path / "m").iterdir()] == [b"2nd"]


def test_claimed_file_appears_at_its_commit(folder: Folder, tmp_path: Path) -> None:
    claim = folder.claim("part-0")
    assert claim is not None
    claim.sink.write(b"half")
    assert folder.sizes() == {}
    claim.sink.write(b" and half")
    claim.commit()
    claim.abandon()
    assert folder.read("part-0") == b"half and half"
    assert (claim.sink.size, claim.sink.sha256) == (13, hashlib.sha256(b"half and half").hexdigest())
    other = folder.claim("part-0")
    assert other is not None
    other.sink.write(b"not this")
    other.abandon()
    assert folder.read("part-0") == b"half and half"
    assert names(folder, tmp_path) == ["part-0"]


HOLD = """
import sys, time
from pathlib import Path
from max_gpt2.batch.corpus.folder import LocalFolder
claim = LocalFolder(Path(sys.argv[1])).claim("part-0")
claim.sink.write(b"x" * 100_000)
print("claimed", flush=True)
time.sleep(600)
"""


def test_claim_is_exclusive_until_its_process_is_killed(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ)) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"claimed\n"
            assert folder.claim("part-0") is None
            other = folder.claim("part-1")
            assert other is not None
            other.abandon()
        finally:
            process.kill()
    claim = folder.claim("part-0")
    assert claim is not None
    claim.sink.write(b"mine")
    claim.commit()
    claim.abandon()
    assert (tmp_path / "part-0").read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["part-0"]


def test_claims_of_many_processes_meet_once(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom max_gpt2.batch.corpus.folder import LocalFolder\n"
        "folder = LocalFolder(Path(sys.argv[1]))\n"
        "for n in range(300):\n"
        "    claim = folder.claim(f'part-{n}')\n"
        "    if claim is None: continue\n"
        "    if folder.size(f'part-{n}') is None:\n"
        "        claim.sink.write(sys.argv[2].encode() * 9)\n"
        "        claim.commit()\n"
        "        print(n)\n"
        "    claim.abandon()\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), str(number)], stdout=subprocess.PIPE, env=dict(os.environ)
        )
        for number in range(4)
    ]
    written = [int(line) for process in processes for line in process.communicate()[0].split()]
    assert sorted(written) == list(range(300))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"part-{n}" for n in range(300))
    assert all(len(set(path.read_bytes())) == 1 for path in tmp_path.iterdir())


def test_full_disk_and_a_file_in_the_place_of_the_folder_are_named(tmp_path: Path) -> None:
    assert "Free some disk space" in str(output_error("out", OSError(errno.ENOSPC, "No space left on device")))
    assert "Check --output" in str(output_error("out", OSError(errno.EACCES, "Permission denied")))
    (tmp_path / "file").write_text("")
    folder = open_folder(str(tmp_path / "file"))
    with pytest.raises(OutputError, match="Check --output"):
        folder.claim("part-0")
    with pytest.raises(OutputError):
        folder.write("a", b"")
