"""A Ray cluster on this machine, in processes of its own."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Starts a cluster, prints its address, and stops it at the end of standard input.
_HEAD = """
import logging, sys
import ray

started = ray.init(
    num_cpus=int(sys.argv[1]),
    _node_ip_address="127.0.0.1",
    include_dashboard=False,
    object_store_memory=100 << 20,
    logging_level=logging.ERROR,
    log_to_driver=False,
)
print(started.address_info["address"], flush=True)
sys.stdin.read()
ray.shutdown()
"""


#: The variables of processes that use a cluster, which refuses those without its token; no reports of usage.
ENVIRONMENT = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}


def clean_environment() -> dict[str, str]:
    """Return the environment of a process that uses Ray: without the variables that MAX has set in C."""
    return {**os.environ, **ENVIRONMENT}


class RayCluster:
    """A running cluster and the process that started it."""

    def __init__(self, cpus: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _HEAD, str(cpus)],
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout
        self.address = self.process.stdout.readline().strip()
        assert self.address, "Ray did not start"

    def stop(self) -> None:
        """Stop the cluster, and wait until its processes have ended."""
        self.process.communicate(timeout=30)

    def kill(self) -> None:
        """Kill all processes of the cluster as `kill -9` does: its servers and workers."""
        for process in (*descendants(self.process.pid), self.process.pid):
            os.kill(process, signal.SIGKILL)
        self.process.communicate()


@contextmanager
def ray_cluster(cpus: int) -> Iterator[RayCluster]:
    """Start a cluster that has this number of CPUs, whatever the machine has."""
    cluster = RayCluster(cpus)
    try:
        yield cluster
    finally:
        if cluster.process.poll() is None:
            cluster.stop()


def descendants(process: int, name: str = "") -> list[int]:
    """Return the ids of the processes that a process has started, directly or not, with a name in their command."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:  # the process has ended
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found, waiting = [], [process]
    while waiting:
        own = children.get(waiting.pop(), [])
        found += own
        waiting += own
    return [one for one in found if name in _command(one)]


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""
