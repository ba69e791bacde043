"""Rules of the structure of the package: import direction, no import cycles, and file sizes."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
PACKAGE = SOURCE / "max_gpt2"
#: The layers of the package, lowest first. A module imports its own layer and those below it.
LAYERS = (
    ("errors", "config", "system", "weights", "_files", "_progress"),
    ("checkpoint", "tokenizer", "model"),
    ("generation", "scoring", "verify", "inspect", "gpt2"),
    ("batch", "serve", "inspect.xray"),
    ("cli", "system.doctor"),
)
#: The imports that point upward, each with the reason.
UPWARD = {
    ("max_gpt2.config", "max_gpt2.checkpoint.locate"): "GPT2Config.from_pretrained accepts a hub id",
}
#: Modules shorter than 40 lines, each with the reason why it is a file of its own.
SHORT = {
    "__main__": "Python runs it for `python -m max_gpt2`",
    "_progress": "the protocol by which every layer reports progress",
    "serve/worker/scheduler": "the only code that looks into MAX's scheduler",
    "system/listen": "both servers, of the API and of the x-ray page, listen with it",
    "system/locks": "the one lock that is not the claim of an output file",
}
#: The top level is the public face: it may import anything, lazily.
FACE = {"max_gpt2", "max_gpt2.__main__"}


def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yield the modules of the package that a module imports, at the top or within a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            within = [one for one in submodules if one in known]
            yield from within
            if len(within) < len(submodules) and node.module != name:
                yield node.module


def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: set(imported(name, path, known)) for name, path in known.items()}


def layer(name: str) -> int:
    inside = name.removeprefix("max_gpt2.")
    layers = {entry: number for number, entries in enumerate(LAYERS) for entry in entries}
    return layers[max((entry for entry in layers if f"{inside}.".startswith(f"{entry}.")), key=len)]


def test_every_module_belongs_to_a_layer() -> None:
    for name in modules().keys() - FACE:
        assert layer(name) >= 0


def test_imports_point_one_way() -> None:
    upward = {
        (name, other)
        for name, others in graph().items()
        for other in others
        if name not in FACE and other not in FACE and layer(other) > layer(name)
    }
    assert upward == set(UPWARD)


def test_there_is_no_import_cycle() -> None:
    # The face imports the rest lazily, and everything may read what it defines.
    edges = {name: others - FACE for name, others in graph().items() if name not in FACE}
    graphlib.TopologicalSorter(edges).prepare()  # raises CycleError, which shows the cycle


def test_import_cycle_is_detected() -> None:
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


def test_worker_does_not_import_the_frontend() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in others
        if name.startswith("max_gpt2.serve.worker") and other.startswith("max_gpt2.serve.frontend")
    ]
    assert not wrong


def test_package_imports_nothing_else_of_the_repository() -> None:
    outside = {"tutorial", "solutions", "steps", "tests", "tools", "bench", "main"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not outside & {name.split(".")[0] for name in names}, path


def test_files_of_the_package_have_40_to_400_lines() -> None:
    sizes = {
        str(path.relative_to(PACKAGE).with_suffix("")): len(path.read_text().splitlines())
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }
    sizes |= {
        f"{path.relative_to(PACKAGE)}": len(path.read_text().splitlines())
        for path in PACKAGE.rglob("*.mojo")
        if path.name != "__init__.mojo"
    }
    assert not {name: lines for name, lines in sizes.items() if lines > 400}
    assert {name for name, lines in sizes.items() if lines < 40} == set(SHORT)


def test_test_files_have_at_most_400_lines() -> None:
    sizes = {path: len(path.read_text().splitlines()) for path in Path(__file__).parent.rglob("*.py")}
    assert not {path: lines for path, lines in sizes.items() if lines > 400}


def test_functions_have_at_most_six_parameters() -> None:
    # The commands are exempt: Typer makes an option of each parameter.
    long = []
    for name, path in modules().items():
        if name.startswith("max_gpt2.cli."):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if len([one for one in arguments if one.arg not in ("self", "cls")]) > 6:
                    long.append(f"{name}.{node.name}")
    assert not long
