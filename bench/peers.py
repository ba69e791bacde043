"""The other ways to run GPT-2 on a CPU: each is installed into a venv of its own, or left out by name."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.side import Side

ROOT = Path(__file__).parent.parent
_LLAMA_CPP = {
    "CMAKE_ARGS": "-DGGML_NATIVE=ON -DGGML_OPENMP=ON -DLLAVA_BUILD=OFF",
    "CMAKE_BUILD_PARALLEL_LEVEL": "2",
}


@dataclass(frozen=True)
class Peer:
    """One of them: its file in `bench.sides`, and what pip installs to run it and to convert the checkpoint for it.

    Without `converts_with` the conversion runs where the model runs, with `converts_here` in this environment. What is
    in `without` comes along and does not go with this PyTorch.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    converts_with: tuple[str, ...] = ()
    converts_here: bool = False
    without: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()


_EXPORT = ("torch==2.13.0", "setuptools<81")
PEERS = [
    Peer("CTranslate2", "ctranslate2_", ("ctranslate2", "transformers<5", *_EXPORT)),
    Peer(
        "OpenVINO",
        "openvino_",
        ("openvino-genai", "numpy"),
        ("optimum-intel[openvino]", *_EXPORT),
        without=("torchvision",),
    ),
    Peer("ONNX Runtime", "onnxruntime_", ("onnxruntime", "numpy"), ("optimum-onnx[onnxruntime]", *_EXPORT)),
    Peer("llama.cpp", "llama_cpp_", ("llama-cpp-python",), converts_here=True, settings=tuple(_LLAMA_CPP.items())),
]


def peers(home: Path, folder: Path) -> tuple[list[Side], dict[str, str]]:
    """Install and convert; return the sides that work on a folder, and of the others why they do not."""
    sides, skipped = [], dict[str, str]()
    for peer in PEERS:
        print(f"{peer.name}: installing and converting", flush=True)
        try:
            side = Side(peer.name, peer.module, folder, _venv(peer, home / peer.module, peer.packages, home))
            _convert(peer, home, side)
            with side.start() as process:
                process.ask([[1, 2, 3], [4, 5, 6]], 2)
        except (subprocess.CalledProcessError, RuntimeError) as error:
            failed = (
                "it cannot be installed or converted" if isinstance(error, subprocess.CalledProcessError) else error
            )
            skipped[peer.name] = f"{failed}; {peer.module}.log in the folder of the peers has what was printed."
            print(f"{peer.name} is left out: {skipped[peer.name]}", flush=True)
        else:
            sides.append(side)
    return sides, skipped


def _convert(peer: Peer, home: Path, side: Side) -> None:
    python = side.python
    if peer.converts_here:
        python = Path(sys.executable)
    elif peer.converts_with:
        python = _venv(peer, home / f"{peer.module}export", peer.converts_with, home)
    # The file is loaded by its path: the exporting environment has no more of this project than that.
    code = (
        "import importlib.util, pathlib, sys\n"
        "spec = importlib.util.spec_from_file_location('side', sys.argv[1])\n"
        "side = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(side)\n"
        "side.convert(sys.argv[2], pathlib.Path(sys.argv[2]))\n"
    )
    path = ROOT / "bench" / "sides" / f"{peer.module}.py"
    _run([str(python), "-c", code, str(path), str(side.folder)], peer, home)


def _venv(peer: Peer, place: Path, packages: tuple[str, ...], home: Path) -> Path:
    python = place / "bin" / "python"
    ready = place / "ready"
    if not ready.exists():
        home.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", str(place)], peer, home)
        settings = [f"{name}={value}" for name, value in peer.settings]
        _run(["env", *settings, str(python), "-m", "pip", "install", "-q", *packages], peer, home)
        if peer.without:
            _run([str(python), "-m", "pip", "uninstall", "-q", "-y", *peer.without], peer, home)
        ready.touch()
    return python


def _run(command: list[str], peer: Peer, home: Path) -> None:
    with (home / f"{peer.module}.log").open("a") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log, cwd=ROOT)
