"""Killed, failing and competing processes: a rerun writes the bytes of an undisturbed run, and nothing twice."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from max_gpt2.batch.corpus.plan import Format
from tests.batch.corpus.faulty import Fault, command
from tests.batch.corpus.support import content

ROOT = Path(__file__).parents[3]
LONG = "0123456789" * 1_000_000
DISK_KIB = 96

Start = Callable[[Fault], "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts a process with a fault."""
    started = list[subprocess.Popen[str]]()

    def run(fault: Fault) -> "subprocess.Popen[str]":
        # dict(): without the variables that MAX's libraries set in this process.
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command(fault), cwd=ROOT, env=dict(os.environ), **streams))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def outcome(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """Wait for a process to end by itself, and return what it printed."""
    out, err = process.communicate(timeout=120)
    assert process.returncode in (0, 2), err
    assert "Traceback" not in err
    return dict(json.loads(out))


def killed(process: "subprocess.Popen[str]") -> None:
    """Wait for a process that kills itself."""
    _, err = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, err


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An input of 200 rows in three files, some of them invalid, with one id for all."""
    folder = tmp_path_factory.mktemp("texts")
    lines = [json.dumps({"id": "same", "text": f"text {row}"}).encode() for row in range(100)]
    lines[3:7] = [b'{"id": "same", "text": null}', b'{"text": "\xff"}', rb'{"text": "\ud800"}', b"\x00{broken"]
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines)))
    values = pa.array([b"\xff" if row % 9 == 4 else f"row {row}".encode() for row in range(50)])
    strings = pa.Array.from_buffers(pa.string(), 50, values.buffers())
    pq.write_table(pa.table({"text": strings, "id": ["same"] * 50}), folder / "b.parquet", row_group_size=7)
    (folder / "c.txt").write_text("\n".join(f"line {row}" for row in range(50)))
    return folder


@pytest.fixture(scope="module")
def fault(texts: Path, tiny_original: Path, tmp_path_factory: pytest.TempPathFactory) -> Fault:
    """A run without a fault."""
    return Fault(str(texts), str(tmp_path_factory.mktemp("runs") / "undisturbed"), str(tiny_original))


@pytest.fixture(scope="module")
def undisturbed(fault: Fault) -> dict[str, bytes]:
    """The files of the run without a fault."""
    assert subprocess.run(command(fault), cwd=ROOT, env=dict(os.environ), check=False).returncode == 0
    found = content(Path(fault.output))
    rows = pq.read_table(fault.output).to_pylist()
    assert [row["index"] for row in rows] == list(range(200))
    assert [row["index"] for row in rows if row["error"]] == [3, 4, 5, 6, 104, 113, 122, 131, 140, 149]
    assert all((row["tokens"] is None) == (row["error"] is not None) for row in rows)
    assert len(found) == 41
    return found


def identities(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the inode and the time of the last change of each part that is done: they differ once it is written."""
    done = {path.stem for path in (folder / "_manifest").glob("*.json")}
    parts = [path for path in folder.glob("part-*") if path.stem in done]
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in parts}


@pytest.mark.parametrize(
    ("die", "at"),
    [
        ("row", 0),
        ("row", 57),
        ("before", 0),
        ("after", 0),
        ("before", 1),
        ("after", 1),
        ("after", 2),
        ("before", 19),
        ("before", 40),
        ("after", 39),
    ],
)
def test_process_killed_at_any_step(
    start: Start, fault: Fault, undisturbed: dict[str, bytes], tmp_path: Path, die: str, at: int
) -> None:
    mine = replace(fault, output=str(tmp_path / "out"))
    killed(start(replace(mine, die=die, at=at)))
    before = identities(tmp_path / "out")
    assert content(tmp_path / "out") != undisturbed
    written = outcome(start(mine))["written"]
    assert before.items() <= identities(tmp_path / "out").items()
    assert sorted([*written, *(int(name[5:10]) for name in before)]) == list(range(20))
    assert content(tmp_path / "out") == undisturbed


def test_process_killed_at_random_moments(
    start: Start, fault: Fault, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    mine, rng = replace(fault, output=str(tmp_path / "out"), seconds=0.01), random.Random(0)
    before: dict[str, tuple[int, int]] = {}
    for _ in range(6):
        process = start(mine)
        assert process.stderr is not None
        process.stderr.readline()  # the first row, or the end
        time.sleep(rng.random() * 0.7)
        process.kill()
        process.communicate()
        after = identities(tmp_path / "out")
        assert before.items() <= after.items()
        before = after
    outcome(start(replace(mine, seconds=0)))
    assert before.items() <= identities(tmp_path / "out").items()
    assert content(tmp_path / "out") == undisturbed


@pytest.mark.parametrize("format_", ["parquet", "jsonl"])
def test_two_runs_of_one_folder_share_the_parts(
    start: Start, fault: Fault, undisturbed: dict[str, bytes], tmp_path: Path, format_: Format
) -> None:
    mine = replace(fault, output=str(tmp_path / "out"), seconds=0.005, format=format_)
    found = [outcome(process) for process in [start(mine) for _ in range(3)]]
    written = [part for one in found for part in one["written"]]
    assert sorted(written) == list(range(20))
    outcome(start(mine))
    if format_ == "parquet":
        assert content(tmp_path / "out") == undisturbed
    else:
        outcome(start(replace(mine, output=str(tmp_path / "alone"))))
        assert content(tmp_path / "out") == content(tmp_path / "alone")


def test_two_shards_at_once(start: Start, fault: Fault, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    mine = replace(fault, output=str(tmp_path / "out"), seconds=0.005)
    first, second = [outcome(process) for process in [start(replace(mine, shard=f"{n}/2")) for n in (2, 1)]]
    assert (first["written"], second["written"]) == (list(range(10, 20)), list(range(10)))
    assert content(tmp_path / "out") == undisturbed


def test_two_different_runs_at_once(start: Start, fault: Fault, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    mine = replace(fault, output=str(tmp_path / "out"), seconds=0.005)
    processes = [start(mine), start(replace(mine, offset=1))]
    refused, done = sorted((outcome(process) for process in processes), key=len)
    assert "out belongs to a run with a different offset" in refused["error"]
    assert done["written"] == list(range(20))
    winner = 0 if "offset (0, now 1)" in refused["error"] else 1
    if winner == 0:
        assert content(tmp_path / "out") == undisturbed
    assert outcome(start(replace(mine, offset=winner)))["written"] == []


@pytest.mark.parametrize("how", ["deleted", "cut", "replaced"])
def test_input_that_becomes_unreadable(
    start: Start, fault: Fault, undisturbed: dict[str, bytes], texts: Path, tmp_path: Path, how: str
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for path in texts.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    mine = replace(fault, input=str(folder), output=str(tmp_path / "out"), seconds=0.005)
    process = start(mine)
    assert process.stderr is not None
    process.stderr.readline()  # the first row: the other files are not open yet
    damaged, original = folder / "b.parquet", (folder / "b.parquet").read_bytes()
    if how == "deleted":
        damaged.unlink()
    else:
        damaged.write_bytes(original[:-100] if how == "cut" else original.replace(b"row 1", b"row 2"))
    failed = outcome(process)
    assert (failed["written"], sorted(failed["failed"])) == (
        [*range(10), *range(15, 20)],
        [str(n) for n in range(10, 15)],
    )
    message = "does not exist anymore" if how == "deleted" else "has changed"
    assert all(f"--input {damaged} {message}" in one for one in failed["failed"].values())
    before = identities(tmp_path / "out")
    again = outcome(start(mine))
    assert "written" not in again or again["written"] == []
    damaged.write_bytes(original)
    assert outcome(start(mine))["written"] == list(range(10, 15))
    assert before.items() <= identities(tmp_path / "out").items()
    assert content(tmp_path / "out") == undisturbed


@pytest.fixture
def long_row(fault: Fault, tmp_path: Path) -> Fault:
    """A run of ten rows, one of them with 10 MB, in parts of two."""
    rows = [{"text": LONG if row == 4 else f"text {row}"} for row in range(10)]
    (tmp_path / "long.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return replace(fault, input=str(tmp_path / "long.jsonl"), part_rows=2)


@pytest.mark.parametrize("die", ["row", "before"])
def test_process_killed_with_a_row_of_ten_megabytes(start: Start, long_row: Fault, tmp_path: Path, die: str) -> None:
    outcome(start(replace(long_row, output=str(tmp_path / "undisturbed"))))
    mine = replace(long_row, output=str(tmp_path / "out"))
    killed(start(replace(mine, die=die, at=5)))
    outcome(start(mine))
    assert content(tmp_path / "out") == content(tmp_path / "undisturbed")
    assert pq.read_table(tmp_path / "out").column("tokens").to_pylist()[4] == len(LONG)


def test_files_that_cannot_grow(start: Start, long_row: Fault, tmp_path: Path) -> None:
    plain = replace(long_row, format="jsonl")
    outcome(start(replace(plain, output=str(tmp_path / "undisturbed"))))
    mine = replace(plain, output=str(tmp_path / "out"))
    failed = outcome(start(replace(mine, largest=1 << 20)))
    assert failed["error"].startswith(
        f"{tmp_path}/out cannot be written (File too large). Free some disk space and run"
    )
    before = identities(tmp_path / "out")
    assert sorted(before) == ["part-00000.jsonl", "part-00001.jsonl"]
    assert outcome(start(mine))["written"] == [2, 3, 4]
    assert before.items() <= identities(tmp_path / "out").items()
    assert content(tmp_path / "out") == content(tmp_path / "undisturbed")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that is soon full."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_KIB}k", "none", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not permitted")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_full_disk(start: Start, fault: Fault, undisturbed: dict[str, bytes], small_disk: Path) -> None:
    mine = replace(fault, output=str(small_disk / "out"))
    ballast = small_disk / "ballast"
    failed = outcome(start(mine))
    assert failed["error"].startswith(f"{small_disk}/out cannot be written (No space left on device). Free some disk")
    before = identities(small_disk / "out")
    assert 0 < len(before) < 20
    assert outcome(start(mine))["error"] == failed["error"]
    subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=True)
    outcome(start(mine))
    assert not ballast.exists()
    assert before.items() <= identities(small_disk / "out").items()
    assert content(small_disk / "out") == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("--workers", "2", "--threads-per-worker", "1")])
def test_score_killed_at_random_moments(
    texts: Path, tiny_original: Path, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    rng = random.Random(1)

    def score(output: str, *options: str) -> "subprocess.Popen[bytes]":
        arguments = ["--model", str(tiny_original), "--input", str(texts), "--part-rows", "5", "--keep-column", "text"]
        command = [sys.executable, "-m", "max_gpt2", "score", *arguments, "--output", f"{tmp_path}/{output}", *options]
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ), start_new_session=True
        )

    assert score("undisturbed").wait() == 1  # of the rows without a text
    before: dict[str, tuple[int, int]] = {}
    for kill in range(4):
        process = score("out", *workers)
        while len(identities(tmp_path / "out")) <= len(before) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.05)
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(process.pid, signal.SIGKILL) if kill % 2 else process.kill()
        process.wait()
        if not kill % 2:
            time.sleep(1)  # the workers end with their parent
        assert before.items() <= identities(tmp_path / "out").items()
        before = identities(tmp_path / "out")
    assert score("out", *workers).wait() == 1
    assert before.items() <= identities(tmp_path / "out").items()
    assert content(tmp_path / "out") == content(tmp_path / "undisturbed")
