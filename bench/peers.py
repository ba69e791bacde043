"""Other implementations of GPT-2 on a CPU, each in its own virtual environment, or skipped with a reason."""

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.implementation import Implementation, Process

ROOT = Path(__file__).parent.parent
_LLAMA_CPP = {
    "CMAKE_ARGS": "-DGGML_NATIVE=ON -DGGML_OPENMP=ON -DLLAVA_BUILD=OFF",
    "CMAKE_BUILD_PARALLEL_LEVEL": "2",
}


@dataclass(frozen=True)
class Peer:
    """Describe a peer: its module in `bench.implementations`, and the packages that run it and convert the checkpoint.

    The conversion runs in the environment of `converts_with`, with `converts_here` in the current one, else in that of
    `packages`; `converts` is false if the checkpoint needs no conversion. `without` lists dependencies to uninstall,
    since they are incompatible with this PyTorch.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    converts_with: tuple[str, ...] = ()
    converts_here: bool = False
    converts: bool = True
    without: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()


_EXPORT = ("torch==2.13.0", "setuptools<81")
_LLAMA = Peer("llama.cpp", "llama_cpp_", ("llama-cpp-python",), converts_here=True, settings=tuple(_LLAMA_CPP.items()))
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
    _LLAMA,
]
#: Peers that score given texts.
SCORING_PEERS = [Peer("minicons", "minicons_", ("minicons", "torch==2.13.0"), converts=False), _LLAMA]
#: Peers that return activations. TransformerLens 4 runs transformers' model with hooks.
TRACING_PEERS = [Peer("TransformerLens", "transformer_lens_", ("transformer-lens", "torch==2.13.0"), converts=False)]


def peers(
    home: Path, folder: Path, compared: Iterable[Peer] = PEERS, loader: str = "load"
) -> tuple[list[Implementation], dict[str, str]]:
    """Install and convert; return the implementations that work on `folder`, and the reason for each one skipped."""
    found, skipped = [], dict[str, str]()
    for peer in compared:
        print(f"{peer.name}: installing and converting", flush=True)
        try:
            python = _venv(peer, home / peer.module, peer.packages, home)
            implementation = Implementation(peer.name, peer.module, folder, python, loader=loader)
            if peer.converts:
                _convert(peer, home, implementation)
            with implementation.start() as process:
                _try(process, loader)
        except (subprocess.CalledProcessError, RuntimeError) as error:
            failed = (
                "it could not be installed or converted" if isinstance(error, subprocess.CalledProcessError) else error
            )
            skipped[peer.name] = f"{failed}; see {peer.module}.log in the peers folder."
            print(f"{peer.name} skipped: {skipped[peer.name]}", flush=True)
        else:
            found.append(implementation)
    return found, skipped


def _try(process: Process, loader: str) -> None:
    if loader == "load":
        process.generate([[1, 2, 3], [4, 5, 6]], 2)
    elif loader == "load_scorer":
        process.score([[1, 2, 3], [4, 5, 6]])
    else:
        process.trace([1, 2, 3], "blocks")


def _convert(peer: Peer, home: Path, implementation: Implementation) -> None:
    python = implementation.python
    if peer.converts_here:
        python = Path(sys.executable)
    elif peer.converts_with:
        python = _venv(peer, home / f"{peer.module}export", peer.converts_with, home)
    # Load the module by its path: the exporting environment does not have this project installed.
    code = (
        "import importlib.util, pathlib, sys\n"
        "spec = importlib.util.spec_from_file_location('implementation', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "module.convert(sys.argv[2], pathlib.Path(sys.argv[2]))\n"
    )
    path = ROOT / "bench" / "implementations" / f"{peer.module}.py"
    _run([str(python), "-c", code, str(path), str(implementation.folder)], peer, home)


def _venv(peer: Peer, folder: Path, packages: tuple[str, ...], home: Path) -> Path:
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        home.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", str(folder)], peer, home)
        settings = [f"{name}={value}" for name, value in peer.settings]
        _run(["env", *settings, str(python), "-m", "pip", "install", "-q", *packages], peer, home)
        if peer.without:
            _run([str(python), "-m", "pip", "uninstall", "-q", "-y", *peer.without], peer, home)
        ready.touch()
    return python


def _run(command: list[str], peer: Peer, home: Path) -> None:
    with (home / f"{peer.module}.log").open("a") as log:
        # MAX sets PYTHONEXECUTABLE, which would start another Python; os.environ does not have it.
        subprocess.run(command, check=True, stdout=log, stderr=log, cwd=ROOT, env=dict(os.environ))
