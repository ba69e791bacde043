"""Process the parts of a corpus run with Ray Data.

Ray's driver is a child process: a cluster that dies may take its driver with it, and Ray starts its processes with the
environment of the driver, in which MAX must not have set its variables.
"""

import importlib.util
import logging
import os
import pickle
import platform
import re
import socket
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from max_gpt2.batch.corpus.drive import Execute, OnProgress, Progress
from max_gpt2.batch.corpus.job import CorpusRun
from max_gpt2.batch.corpus.manifest import read_entry
from max_gpt2.batch.corpus.processes import Child, Parent, ProcessError, run_child
from max_gpt2.batch.corpus.run import Outcome
from max_gpt2.batch.corpus.worker import Assignment, PartWorker
from max_gpt2.batch.corpus.workers import cut
from max_gpt2.errors import MaxGPT2Error, MissingExtraError, RequestError
from max_gpt2.system.machine import usable_cores

#: A cluster that this process starts moves only small results through its object store.
_OBJECT_STORE_BYTES = 100 << 20
#: A part is tried this many times again after the death of its actor.
_RETRIES = 3
#: Seconds to wait for a free core, since a job that has just ended may still be counted, and for a trivial task.
_WAIT = 20.0
#: Seconds after which a driver ends if the cluster that it has started ended.
_LOCAL_TIMEOUT = 10
#: The time, the process and the line at the start of a message in the log of Ray.
_LOG_PREFIX = re.compile(r"^\[[^]]*\] \S+: (:\w+: )?")
_COLORS = re.compile(r"\x1b\[[0-9;]*m")
_REMEDY = "Run the same command again to resume."


def execute_with_ray(address: str | None, workers: int | None, threads: int | None) -> Execute:
    """Return a function that processes parts with Ray Data: in `workers` actors with `threads` threads each.

    `address` is that of a cluster, "auto" for a running one, or "local" to start one on this machine; without it, it is
    that of the environment variable RAY_ADDRESS, or "local". For the numbers, see `choose_actors`. Raises
    MissingExtraError without Ray, and RequestError for the address of a Ray Client server, which Ray Data does not
    support. The function raises MaxGPT2Error if the cluster cannot be used or fails.
    """
    if address is not None and address.startswith("ray://"):
        raise RequestError(
            f"--address {address} is that of a Ray Client server, which Ray Data does not support. Run the command on "
            "a machine of the cluster with --address auto, or with `ray job submit`."
        )
    if importlib.util.find_spec("ray") is None:
        raise MissingExtraError("--engine ray needs Ray. Install it: pip install 'max-gpt2[ray]'")

    def execute(run: CorpusRun, parts: list[int], on_progress: OnProgress) -> Outcome:
        assignment = Assignment(run.job, run.plan.digest, threads or 1)
        call = ClusterCall(address, workers, threads, assignment, run.plan.part_rows, parts)
        with tempfile.TemporaryFile() as log:
            child = Child("max_gpt2.batch.corpus.cluster", log)
            try:
                child.send(call)
                while not isinstance(message := child.receive(), Outcome):
                    if isinstance(message, MaxGPT2Error):
                        raise message
                    if isinstance(message, Progress):
                        on_progress(message)
                return message
            except EOFError as error:
                reason = child.stop()
                log.seek(0)
                last = log.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
                message = _LOG_PREFIX.sub("", last) or "no message"
                raise ProcessError(
                    f"The driver of Ray ended ({reason}), perhaps with its cluster. Its last message: "
                    f"{message.rstrip('.')}. {_REMEDY}"
                ) from error
            finally:
                child.stop()

    return execute


@dataclass(frozen=True)
class ClusterCall:
    """The arguments of the driver: the cluster, the requested actors, and the parts to process."""

    address: str | None
    workers: int | None
    threads: int | None
    assignment: Assignment
    part_rows: int
    parts: Sequence[int]


@dataclass(frozen=True)
class Processed:
    """The result of one call of an actor: the parts, their progress and their outcome."""

    parts: list[int]
    progress: Progress
    outcome: Outcome


class Starts:
    """An actor that counts how often other actors have died while they loaded the model."""

    def __init__(self) -> None:
        self._failed = Counter[str]()

    def begin(self, actor: str) -> int:
        """Return the number of earlier starts of an actor since it was last loaded."""
        self._failed[actor] += 1
        return self._failed[actor] - 1

    def loaded(self, actor: str) -> None:
        """Forget the starts of an actor, which has loaded the model."""
        del self._failed[actor]


class PartActor:
    """A class for `map_batches`: takes batches of lists of parts, and returns what became of each, pickled."""

    def __init__(self, assignment: Assignment, starts: Any) -> None:
        """Load the model; an error is returned by the first call, since Ray would start a failed actor again.

        `starts` is an actor of `Starts`: Ray starts an actor for ever that is killed each time that it loads the model.
        """
        import ray

        self._progress = list[Progress]()
        own = ray.get_runtime_context().get_actor_id()
        try:
            if (deaths := ray.get(starts.begin.remote(own))) > _RETRIES:
                raise ProcessError(
                    f"An actor ended {deaths} times while it loaded the model on {platform.node()}. Check the memory "
                    "of the machine, and use fewer --workers."
                )
            self._worker: PartWorker | MaxGPT2Error = PartWorker(assignment, self._progress.append)
            ray.get(starts.loaded.remote(own))
        except MaxGPT2Error as error:
            self._worker = error

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[bytes]]:
        """Process the parts of a batch: returns `Processed`, an error, or the traceback of an unexpected one."""
        return {"result": [pickle.dumps(self._process([int(part) for part in parts])) for parts in batch["parts"]]}

    def _process(self, parts: list[int]) -> Processed | MaxGPT2Error | str:
        if isinstance(self._worker, MaxGPT2Error):
            return self._worker
        self._progress.clear()
        try:
            outcome = self._worker.process(parts)
        except MaxGPT2Error as error:
            return error
        except Exception:
            return traceback.format_exc()
        self._add_earlier(self._worker.run, parts, outcome)
        rows, tokens = (sum(getattr(one, name) for one in self._progress) for name in ("rows", "tokens"))
        errors = tuple(message for one in self._progress for message in one.errors)
        return Processed(parts, Progress(rows, tokens, errors), outcome)

    def _add_earlier(self, run: CorpusRun, parts: list[int], outcome: Outcome) -> None:
        """Add the progress of the parts that were done already, by an actor that died before it could report them."""
        now = {entry.part for entry in outcome.written} | {*outcome.taken, *outcome.failed}
        for part in parts:
            if part not in now and (entry := read_entry(run.folder, run.plan, part)):
                self._progress.append(Progress(entry.rows, entry.tokens))


def choose_actors(workers: int | None, threads: int | None, nodes: Sequence[int]) -> tuple[int, int]:
    """Return the numbers of actors and of threads of each for nodes with these numbers of CPUs.

    Without `workers`, as many as fit, and one CPU stays free unless an actor needs it. Without `threads`, one, or as
    many as `workers` leave. Raises RequestError if the nodes have too few CPUs.
    """
    total = sum(nodes)
    if threads is None:
        most = 1 if workers is None else max(1, (total - 1) // workers)
        threads = next((one for one in range(most, 1, -1) if _fitting(nodes, one) >= (workers or 1)), 1)
    fitting = _fitting(nodes, threads)
    if fitting < (workers or 1):
        has = f"{total} on {len(nodes)} nodes ({', '.join(map(str, nodes))})" if len(nodes) > 1 else f"{total}"
        raise RequestError(
            f"The Ray cluster has too few CPUs: {has}, enough for {fitting} of {workers or 1} workers with {threads} "
            "threads each. Use fewer --workers or --threads-per-worker, or add nodes."
        )
    if workers is None:
        spare = [[cpus - (index == other) for other, cpus in enumerate(nodes)] for index in range(len(nodes))]
        workers = max(1, *(_fitting(one, threads) for one in spare))
    return workers, threads


def _fitting(nodes: Sequence[int], threads: int) -> int:
    return sum(cpus // threads for cpus in nodes)


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine for "local" or without an address."""
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    own: dict[str, Any] = {}
    if address == "local":
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(_LOCAL_TIMEOUT))
        cores = max(1, int(usable_cores()))
        own = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    import ray

    try:
        _check_reachable(address)
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **own)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        remedy = "See its logs" if address == "local" else "Start it (ray start --head), or check --address"
        raise ProcessError(f"Cannot use the Ray cluster at {address!r} ({_summary(error)}). {remedy}.") from error
    try:
        yield
    except ray.exceptions.RayError as error:
        raise ProcessError(f"The Ray cluster failed ({_summary(error)}). {_REMEDY}") from error
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Connect to the HOST:PORT of an address; raises OSError at once where Ray would try again for many minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _WAIT).close()


def _summary(error: BaseException) -> str:
    """Return the first line of an error of Ray, and the last one, which has the cause if there is a traceback."""
    lines = _COLORS.sub("", str(error)).strip().splitlines() or [type(error).__name__]
    return " ... ".join(dict.fromkeys([lines[0], lines[-1]]))


def _nodes() -> list[int]:
    """Return the number of CPUs of each node of the cluster."""
    import ray

    return [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]


def _check_alive() -> None:
    """Run a task, and raise RayError if no node of the cluster does so."""
    import ray

    ray.get(ray.remote(num_cpus=0)(lambda: None).remote(), timeout=_WAIT)


def _wait_for_cores(threads: int) -> None:
    """Wait a little for free CPUs; raises RequestError if other jobs use them, since actors would wait for ever."""
    import ray

    due = time.monotonic() + _WAIT
    while (free := ray.available_resources().get("CPU", 0)) < threads:
        if time.monotonic() > due:
            raise RequestError(
                f"Other jobs use the Ray cluster: {free:g} of its {ray.cluster_resources().get('CPU', 0):g} CPUs are "
                f"free, and a worker needs {threads}. Wait for them, or use fewer --threads-per-worker."
            )
        time.sleep(0.2)


def _process(call: ClusterCall) -> Iterator[Processed | MaxGPT2Error | str]:
    """Process the parts with Ray Data, and yield the results of `PartActor`."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext, from_items

    workers, threads = choose_actors(call.workers, call.threads, _nodes())
    _wait_for_cores(threads)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # parts whose actors die again and again: they have no result
    lists = cut(call.part_rows, call.parts, workers)
    assignment = replace(call.assignment, threads=threads)
    starts = ray.remote(num_cpus=0, max_restarts=-1)(Starts).remote()
    results = from_items([{"parts": parts} for parts in lists], override_num_blocks=len(lists)).map_batches(
        PartActor,
        fn_constructor_kwargs={"assignment": assignment, "starts": starts},
        batch_size=1,
        compute=ActorPoolStrategy(size=min(workers, len(lists)), max_tasks_in_flight_per_actor=2),
        num_cpus=threads,
        max_restarts=-1,  # Ray Data waits for an actor that is not started again
        max_task_retries=_RETRIES,
    )
    for batch in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for result in batch["result"]:
            yield pickle.loads(result.as_py())


def _serve(parent: Parent) -> None:
    """Process the parts of the call that the parent sends; send the progress, and in the end the outcome."""
    call: ClusterCall = next(parent.calls())
    total, missing = Outcome(), set(call.parts)
    with _connected(call.address):
        before = len(missing) + 1
        while 0 < len(missing) < before:  # again, if actors have died too often for some of the parts
            before = len(missing)
            for result in _process(replace(call, parts=sorted(missing))):
                if isinstance(result, MaxGPT2Error):
                    raise result
                if isinstance(result, str):
                    raise RuntimeError(result)
                missing -= set(result.parts)
                total.add(result.outcome)
                parent.send(result.progress)
            if missing:
                _check_alive()  # otherwise, the parts are not the reason
    for part in missing:
        total.failed[part] = f"{1 + _RETRIES} actors ended while they processed it."
    parent.send(total)


def main() -> None:
    """Run the driver; see `execute_with_ray`."""
    run_child(_serve)
