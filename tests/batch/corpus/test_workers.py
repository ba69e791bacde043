"""Worker processes write the bytes of an undisturbed run, also when they or their parent are killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from max_gpt2.batch.corpus.drive import CorpusSummary, Progress, execute_here, run_corpus
from max_gpt2.batch.corpus.job import Job, open_run
from max_gpt2.batch.corpus.processes import ProcessError
from max_gpt2.batch.corpus.tasks import ScoreTask
from max_gpt2.batch.corpus.workers import check_numbers, cut, execute_with_workers, share_cores
from max_gpt2.errors import RequestError
from max_gpt2.scoring import ScoreOptions
from tests.batch.corpus.support import Display, content, write_texts
from tests.support.ray_cluster import descendants

ROWS, PART_ROWS = 240, 10


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("input"), ROWS)


@pytest.fixture(scope="module")
def make(tiny_original: Path, texts: Path) -> Callable[[Path], Job]:
    return lambda output: Job(
        str(texts), str(output), ScoreTask(ScoreOptions(unit="word")), str(tiny_original), part_rows=PART_ROWS
    )


@pytest.fixture(scope="module")
def undisturbed(make: Callable[[Path], Job], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run in this process."""
    output = tmp_path_factory.mktemp("outputs") / "undisturbed"
    assert run_corpus(open_run(make(output)), execute_here(), Display()).complete
    return content(output)


def run(job: Job, count: int, display: Display) -> CorpusSummary:
    return run_corpus(open_run(job), execute_with_workers(count, 1), display)


@pytest.mark.parametrize("count", [1, 3])
def test_workers_write_the_same_bytes(
    make: Callable[[Path], Job], tmp_path: Path, undisturbed: dict[str, bytes], count: int
) -> None:
    display = Display()
    summary = run(make(tmp_path / "out"), count, display)
    assert summary.complete
    assert len(summary.outcome.written) == ROWS // PART_ROWS
    assert display.rows == ROWS
    assert display.tokens == sum(entry.tokens for entry in summary.entries.values())
    assert len(display.errors) == sum(entry.errors for entry in summary.entries.values()) > 0
    assert content(tmp_path / "out") == undisturbed


def test_dead_worker_is_replaced(make: Callable[[Path], Job], tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if len(killed) < 2:
            killed.append(descendants(os.getpid(), "corpus.worker")[0])
            os.kill(killed[-1], signal.SIGKILL)

    display = Display(kill)
    summary = run(make(tmp_path / "out"), 3, display)
    assert len(killed) == 2
    assert summary.complete
    assert display.rows == ROWS
    assert content(tmp_path / "out") == undisturbed


def test_part_that_kills_every_worker_fails_alone(
    make: Callable[[Path], Job], tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_GPT2_TEST_FATAL_ROW", "55")
    (tmp_path / "sitecustomize.py").write_text(FATAL_ROW)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    summary = run(make(tmp_path / "out"), 2, Display())
    assert summary.outcome.failed == {5: "3 workers ended while they processed it (killed by signal 9)."}
    found = content(tmp_path / "out")
    assert found.pop(".part-00005.parquet.work") == b""  # of the last worker
    assert found == {name: value for name, value in undisturbed.items() if "00005" not in name}


#: Kills a worker at a row.
FATAL_ROW = """
import os, signal, sys

if "max_gpt2.batch.corpus.worker" in " ".join(sys.orig_argv):
    from max_gpt2.batch.corpus import rows

    made = rows.Row.__init__

    def make(self, index, *others):
        if index == int(os.environ["MAX_GPT2_TEST_FATAL_ROW"]):
            os.kill(os.getpid(), signal.SIGKILL)
        made(self, index, *others)

    rows.Row.__init__ = make
"""


def test_error_of_a_worker_ends_the_run(make: Callable[[Path], Job], tmp_path: Path) -> None:
    opened = open_run(make(tmp_path / "out"))
    (tmp_path / "out" / "_corpus.json").unlink()
    with pytest.raises(RequestError, match=r"out does not have the plan of this run as .* sees it. Choose"):
        run_corpus(opened, execute_with_workers(2, 1), Display())
    assert not descendants(os.getpid(), "corpus.worker")


def test_workers_that_cannot_start_are_an_error(
    make: Callable[[Path], Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("max_gpt2.batch.corpus.processes.sys.executable", "/bin/false")
    with pytest.raises(ProcessError, match=r"\d workers ended while they loaded the model \(exit code 1\)"):
        run(make(tmp_path / "out"), 2, Display())


@pytest.fixture
def command(make: Callable[[Path], Job], tmp_path: Path) -> Iterator[subprocess.Popen[Any]]:
    """The command line with three workers, once they process parts; the output is `out`."""
    job = make(tmp_path / "out")
    arguments = ["--input", job.input, "--output", job.output, "--model", job.model, "--unit", "word"]
    arguments += ["--part-rows", str(PART_ROWS), "--workers", "3"]
    with subprocess.Popen(
        [sys.executable, "-m", "max_gpt2", "score", *arguments],
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not list((tmp_path / "out" / "_manifest").glob("part-*")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(
    command: subprocess.Popen[Any],
    make: Callable[[Path], Job],
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    number: signal.Signals,
) -> None:
    children = descendants(command.pid, "corpus.worker")
    assert len(children) == 3
    os.kill(command.pid, number)
    _, err = command.communicate()
    if number == signal.SIGINT:
        assert command.returncode == 2
        assert "Stopped by Ctrl-C." in err
    else:
        assert command.returncode == -number
    limit = time.monotonic() + 10
    while alive := [child for child in children if Path(f"/proc/{child}/exe").exists()]:
        assert time.monotonic() < limit, alive
        time.sleep(0.05)
    assert len(list((tmp_path / "out" / "_manifest").iterdir())) < ROWS // PART_ROWS
    assert run(make(tmp_path / "out"), 3, Display()).complete
    assert content(tmp_path / "out") == undisturbed


def test_cores_are_shared() -> None:
    assert share_cores(None, 2, 8) == (4, 2)
    assert share_cores(3, None, 8) == (3, 2)
    assert share_cores(3, 4, 8) == (3, 4)
    assert share_cores(4, None, 2) == (4, 1)
    assert share_cores(None, 4, 2) == (1, 4)
    with pytest.raises(RequestError, match="--workers 0 is not a positive integer"):
        check_numbers(0, 1)
    with pytest.raises(RequestError, match="--threads-per-worker -1 is not a positive integer"):
        check_numbers(None, -1)


def test_calls_have_each_part_once() -> None:
    for count in (1, 2, 50):
        calls = cut(PART_ROWS, range(3, 24), count)
        assert [part for call in calls for part in call] == list(range(3, 24))
        assert len(calls) >= min(21, 8 * count)
    sizes = [len(call) for call in cut(10, range(2000), 4)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 2000 // (4 * 8)
    assert sizes[-8:] == [1] * 8
    many = cut(PART_ROWS, range(100_000), 50_000)
    assert [part for call in many for part in call] == list(range(100_000))
    assert len(many) <= 25_000
