"""Start servers as child processes and measure their memory."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from max_gpt2.checkpoint import LoadOptions
from max_gpt2.checkpoint.gguf_convert import convert_to_gguf

NAME = "measured"
_READY_TIMEOUT_S = 900


@dataclass(frozen=True)
class Server:
    """A ready server: its port, its process id, and the seconds it took to become ready."""

    port: int
    pid: int
    ready_s: float

    def peak_bytes(self) -> dict[str, int]:
        """Return the peak resident bytes of each of its processes, largest first."""
        sizes = {pid: _peak(pid) for pid in _tree(self.pid)}
        return {str(pid): size for pid, size in sorted(sizes.items(), key=lambda item: -item[1])}


@contextmanager
def serving(folder: Path, batch: int, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run `max-gpt2 serve` until the block ends; raises RuntimeError if it does not become ready."""
    port = _free_port()
    command = [sys.executable, "-m", "max_gpt2", "serve", "--model", str(folder), "--port", str(port)]
    command += ["--served-model-name", NAME, "--max-batch-size", str(batch)]
    with _running(command, port, environment or {}) as server:
        yield server


@contextmanager
def serving_llama_cpp(program: Path, file: Path, batch: int, context: int) -> Iterator[Server]:
    """Run llama.cpp's `llama-server` on a GGUF file, with a context of `context` tokens per sequence."""
    port = _free_port()
    command = [str(program), "--model", str(file), "--port", str(port), "--threads", "2", "--no-webui"]
    command += ["--parallel", str(batch), "--ctx-size", str(batch * context)]
    with _running(command, port, {}) as server:
        yield server


def write_gguf(folder: Path, file: Path) -> None:
    """Write a checkpoint for llama.cpp, in float32.

    Each id of the model gets a text, since llama-server streams no token without one.
    """
    vocab_size = json.loads((folder / "config.json").read_text())["vocab_size"]
    vocab = json.loads((folder / "vocab.json").read_text())
    vocab |= {f"t{id_}": id_ for id_ in set(range(vocab_size)) - set(vocab.values())}
    with tempfile.TemporaryDirectory() as temporary:
        tokenizer = Path(temporary)
        (tokenizer / "vocab.json").write_text(json.dumps(vocab))
        shutil.copyfile(folder / "merges.txt", tokenizer / "merges.txt")
        convert_to_gguf(folder, file, "f32", LoadOptions(tokenizer=tokenizer))


@contextmanager
def _running(command: list[str], port: int, environment: Mapping[str, str]) -> Iterator[Server]:
    started = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ | dict(environment), stdout=subprocess.DEVNULL)
    try:
        while not _is_ready(port):
            if process.poll() is not None or time.perf_counter() - started > _READY_TIMEOUT_S:
                raise RuntimeError(f"{command[0]}: the server did not become ready")
            time.sleep(0.05)
        yield Server(port, process.pid, time.perf_counter() - started)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as response:
            json.load(response)
            return bool(response.status == 200)
    except (OSError, ValueError, urllib.error.URLError):
        return False


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _tree(pid: int) -> Iterator[int]:
    """Yield a process id and those of all its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _tree(int(child))


def _peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return 0
