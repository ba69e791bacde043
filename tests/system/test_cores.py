"""The size of MAX's thread pool is the requested one, and no thread stays bound to a core."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from max_gpt2.system.cores import distinct_cores

CORES = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 0
#: Starts the pool, then a session, and prints the size of the pool and the affinity of each thread.
PROGRAM = """
import json, os, sys
from pathlib import Path
from max_gpt2.system.cores import start_thread_pool

start_thread_pool(int(sys.argv[1]))
from max.driver import CPU
from max.engine import InferenceSession

session = InferenceSession(devices=[CPU()])
tasks = list(Path("/proc/self/task").iterdir())
names = [(task / "comm").read_text() for task in tasks]
affinities = [sorted(os.sched_getaffinity(int(task.name))) for task in tasks]
print(json.dumps([sum("Thread" in name for name in names), affinities]))
"""


@pytest.mark.skipif(CORES < 2, reason="needs Linux and two cores")
@pytest.mark.parametrize("threads", [1, 2])
def test_pool_has_the_requested_threads_on_all_cores(threads: int) -> None:
    command = [sys.executable, "-c", PROGRAM, str(threads)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=True)
    pool, affinities = json.loads(done.stdout)
    assert pool == threads
    assert affinities == [sorted(os.sched_getaffinity(0))] * len(affinities)


@pytest.mark.skipif(CORES == 0, reason="needs Linux")
def test_pool_is_at_most_one_thread_per_core() -> None:
    command = [sys.executable, "-c", PROGRAM, str(CORES + 5)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)[0] == CORES


def test_physical_cores_come_before_their_second_threads(tmp_path: Path) -> None:
    for number, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        folder = tmp_path / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    assert distinct_cores({0, 1, 2, 3}, tmp_path) == [0, 1, 2, 3]
    assert distinct_cores({0, 2, 3}, tmp_path) == [0, 3, 2]
    assert distinct_cores({7, 5}, tmp_path) == [5, 7]  # unknown cores are distinct
