"""`--engine ray` writes the bytes of a run without Ray, also when its actors, its driver or the cluster are killed."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from max_gpt2.batch.corpus.cluster import choose_actors, execute_with_ray
from max_gpt2.batch.corpus.drive import CorpusSummary, Progress, execute_here, run_corpus
from max_gpt2.batch.corpus.job import Job, open_run
from max_gpt2.batch.corpus.processes import ProcessError
from max_gpt2.batch.corpus.tasks import ScoreTask
from max_gpt2.errors import MissingExtraError, RequestError
from max_gpt2.scoring import ScoreOptions
from tests.batch.corpus.support import Display, content, write_texts
from tests.support.ray_cluster import ENVIRONMENT, RayCluster, descendants, ray_cluster

pytest.importorskip("ray")

ROWS, PART_ROWS = 1200, 50
Make = Callable[[str], Job]


@pytest.fixture(scope="module")
def undisturbed(tiny_original: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, dict[str, bytes]]:
    """A job, and the files that it writes in this process."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "in").mkdir()
    texts, task = str(write_texts(folder / "in", ROWS)), ScoreTask(ScoreOptions(unit="word"))
    job = Job(texts, str(folder / "out"), task, str(tiny_original), part_rows=PART_ROWS)
    assert run_corpus(open_run(job), execute_here(), Display()).complete
    return job, content(folder / "out")


@pytest.fixture
def job(undisturbed: tuple[Job, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """The job with an output that does not exist; drivers may use the clusters of the tests."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    # Seconds after which a driver ends if its cluster does not answer.
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")
    first = undisturbed[0]
    return Job(first.input, str(tmp_path / "out"), first.task, first.model, part_rows=PART_ROWS)


def run(job: Job, cluster: RayCluster, actors: int, display: Display | None = None) -> CorpusSummary:
    return run_corpus(open_run(job), execute_with_ray(cluster.address, actors, 1), display or Display())


def check(job: Job, undisturbed: tuple[Job, dict[str, bytes]]) -> None:
    assert content(Path(job.output)) == undisturbed[1]


class Kill:
    """Kills a process each time that parts are done, up to `times`: of a parent, with a name in its command."""

    def __init__(self, parent: int, name: str, times: int = 1) -> None:
        self.killed = 0
        self._parent, self._name, self._times = parent, name, times

    def __call__(self, _: Progress) -> None:
        if self.killed < self._times and (found := descendants(self._parent, self._name)):
            os.kill(found[0], signal.SIGKILL)
            self.killed += 1


ACTOR, DRIVER = "ray::MapWorker(MapBatches(PartActor))", "batch.corpus.cluster"


@pytest.mark.parametrize(("actors", "times"), [pytest.param(1, 6, marks=pytest.mark.slow), (3, 1)])
def test_killed_actor_changes_nothing(
    job: Job, cluster: RayCluster, undisturbed: tuple[Job, dict[str, bytes]], actors: int, times: int
) -> None:
    kill = Kill(cluster.process.pid, ACTOR, times)
    display = Display(kill)
    summary = run(job, cluster, actors, display)
    assert kill.killed == times
    assert summary.complete
    assert display.rows == ROWS
    assert display.tokens == sum(entry.tokens for entry in summary.entries.values())
    check(job, undisturbed)


def test_run_resumes_after_its_driver_is_killed(
    job: Job, cluster: RayCluster, undisturbed: tuple[Job, dict[str, bytes]]
) -> None:
    with pytest.raises(ProcessError, match=r"The driver of Ray ended \(killed by signal 9\)"):
        run(job, cluster, 3, Display(Kill(os.getpid(), DRIVER)))
    display = Display()
    assert run(job, cluster, 3, display).complete
    assert 0 < display.rows < ROWS
    check(job, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("actors", [1, 3])
def test_run_resumes_after_ray_is_killed(
    job: Job, cluster: RayCluster, undisturbed: tuple[Job, dict[str, bytes]], actors: int
) -> None:
    with ray_cluster(3) as other, pytest.raises(ProcessError, match="Run the same command again to resume"):
        run(job, other, actors, Display(lambda _: None if other.process.returncode else other.kill()))
    assert other.process.returncode == -signal.SIGKILL
    assert run(job, cluster, actors).complete
    check(job, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("actors", [1, 3])
def test_run_resumes_after_the_command_is_killed(
    job: Job, cluster: RayCluster, undisturbed: tuple[Job, dict[str, bytes]], actors: int
) -> None:
    arguments = ["--input", job.input, "--output", job.output, "--model", job.model, "--unit", "word"]
    arguments += ["--part-rows", str(PART_ROWS), "--engine", "ray", "--address", cluster.address]
    arguments += ["--workers", str(actors), "--threads-per-worker", "1"]
    command = [sys.executable, "-m", "max_gpt2", "score", *arguments]
    with subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.PIPE, text=True) as process:
        while not list(Path(job.output, "_manifest").glob("part-*")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.kill()
    limit = time.monotonic() + 30
    while descendants(cluster.process.pid, ACTOR):  # the actors end with the driver, and that with the command
        assert time.monotonic() < limit
        time.sleep(0.1)
    again = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True)
    assert again.returncode == 1, again.stderr  # of the rows without a text
    check(job, undisturbed)


@pytest.mark.slow
def test_actor_that_is_killed_as_it_loads_is_an_error(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(KILLED_BY_WEIGHTS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with ray_cluster(1) as other, pytest.raises(ProcessError, match="An actor ended 4 times while it loaded the model"):
        run(job, other, 1)


#: Kills a process of Ray that opens the weights, as the system does without memory for them.
KILLED_BY_WEIGHTS = """
import os, signal, sys

def audit(event, arguments):
    if event == "open" and str(arguments[0]).endswith("model.safetensors"):
        os.kill(os.getpid(), signal.SIGKILL)

if any("default_worker" in one for one in sys.orig_argv):
    sys.addaudithook(audit)
"""


@pytest.mark.slow
def test_cluster_of_its_own(job: Job, undisturbed: tuple[Job, dict[str, bytes]]) -> None:
    before = set(descendants(os.getpid()))
    assert run_corpus(open_run(job), execute_with_ray("local", None, None), Display()).complete
    check(job, undisturbed)
    assert set(descendants(os.getpid())) <= before


def test_output_that_an_actor_cannot_reach_is_an_error(job: Job, cluster: RayCluster) -> None:
    opened = open_run(job)
    (Path(job.output) / "_corpus.json").unlink()  # as on a machine with a folder of the same name
    with pytest.raises(RequestError, match=r"out does not have the plan of this run as .* sees it. Choose"):
        run_corpus(opened, execute_with_ray(cluster.address, 1, 1), Display())


def test_too_small_cluster_is_refused(job: Job, cluster: RayCluster) -> None:
    with pytest.raises(RequestError, match="too few CPUs: 4, enough for 4 of 9 workers with 1 threads each"):
        run(job, cluster, 9)


def test_missing_cluster_is_an_error(job: Job) -> None:
    with pytest.raises(ProcessError, match=r"Cannot use the Ray cluster at '127.0.0.1:1' \(.*refused\). Start it"):
        run_corpus(open_run(job), execute_with_ray("127.0.0.1:1", 1, 1), Display())


def test_address_of_ray_client_is_refused() -> None:
    with pytest.raises(RequestError, match="--address ray://host:10001 is that of a Ray Client server"):
        execute_with_ray("ray://host:10001", None, None)


def test_missing_ray_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'max-gpt2\[ray\]'"):
        execute_with_ray(None, None, None)


@pytest.mark.parametrize(
    ("workers", "threads", "nodes", "expected"),
    [
        (None, None, [8], (7, 1)),
        (None, 2, [8], (3, 2)),  # one core stays free
        (None, 2, [9], (4, 2)),
        (None, 2, [2], (1, 2)),  # there are no more than the threads
        (None, 4, [6, 6], (2, 4)),
        (None, None, [1], (1, 1)),
        (2, None, [8], (2, 3)),
        (2, None, [4, 4], (2, 3)),
        (3, None, [4, 4], (3, 2)),
        (8, None, [8], (8, 1)),
        (4, 2, [8], (4, 2)),
    ],
)
def test_actors_fit_the_nodes(
    workers: int | None, threads: int | None, nodes: list[int], expected: tuple[int, int]
) -> None:
    assert choose_actors(workers, threads, nodes) == expected


@pytest.mark.parametrize(
    ("workers", "threads", "nodes", "message"),
    [
        (3, 4, [6, 6], r"12 on 2 nodes \(6, 6\), enough for 2 of 3 workers with 4 threads"),
        (None, 3, [2], "2, enough for 0 of 1 workers with 3 threads"),
        (9, None, [8], "8, enough for 8 of 9 workers with 1 threads"),
    ],
)
def test_too_few_cpus_are_refused_with_numbers(
    workers: int | None, threads: int | None, nodes: list[int], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        choose_actors(workers, threads, nodes)
