"""Locks between processes, and the compilation that they keep to one process."""

import fcntl
import multiprocessing
import os
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from max_gpt2.model import compile_cache
from max_gpt2.system.locks import exclusive

SPAWN = multiprocessing.get_context("spawn")  # a copy of a process with MAX's threads may hang


def compile_somewhere(folder: Path, log: Path, hangs: bool = False) -> None:
    """Load or compile a graph with a compiler that writes a line into `log` and takes a second."""

    def compile_graph() -> Any:
        with log.open("a") as file:
            file.write("compiled\n")
        time.sleep(3600 if hangs else 1)
        return list, SimpleNamespace(export_mef=lambda file: file.write_bytes(b"a graph"))

    def read(path: Path, _load: object) -> Any:
        return list if path.read_bytes() == b"a graph" else None

    compile_cache.cache_folder = lambda: folder
    compile_cache._read = read  # type: ignore[assignment]
    compile_cache._load_or_compile("key", compile_graph, lambda _artifact: list)


def start(*arguments: object) -> BaseProcess:
    process = SPAWN.Process(target=compile_somewhere, args=arguments, daemon=True)
    process.start()
    return process


def finish(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_processes_that_start_together_compile_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    finish([start(tmp_path, log) for _ in range(3)])
    assert log.read_text() == "compiled\n"
    (graph,) = (tmp_path / "max-gpt2").iterdir()  # the lock is not left behind
    assert graph.suffix == ".mef"


def test_another_process_compiles_after_the_first_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    killed = start(tmp_path, log, True)
    while not log.exists():
        time.sleep(0.02)
    other = start(tmp_path, log)
    time.sleep(0.2)
    assert killed.pid
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    finish([other])
    assert log.read_text() == "compiled\n" * 2


def test_folder_without_locks_compiles_in_each_process(tmp_path: Path) -> None:
    (tmp_path / "max-gpt2").write_text("a file instead of a folder")
    log = tmp_path / "log"
    finish([start(tmp_path, log) for _ in range(2)])
    assert log.read_text() == "compiled\n" * 2


def test_waiter_locks_a_new_file_when_the_holder_deletes_the_old_one(tmp_path: Path) -> None:
    path, order = tmp_path / "lock", SPAWN.Queue()
    waiter = SPAWN.Process(target=wait_for_lock, args=(path, order), daemon=True)
    with exclusive(path) as locked:
        assert locked
        waiter.start()
        assert order.get(timeout=60) == "waits"
        time.sleep(0.2)  # it has opened the file
    assert order.get(timeout=60) == "enters"
    with path.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finish([waiter])
    assert not path.exists()


def wait_for_lock(path: Path, order: Any) -> None:
    order.put("waits")
    with exclusive(path):
        order.put("enters")
        time.sleep(1)


def test_context_without_a_lock_says_so(tmp_path: Path) -> None:
    with exclusive(tmp_path / "missing" / "lock") as locked:
        assert not locked
