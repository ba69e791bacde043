"""Every command on the pages of the site runs, and inline mentions of commands are correct."""

import re
import socket
import tomllib
from pathlib import Path

import pytest

from tests.book.pages import DOCS, ROOT, command_blocks, commands, site_names
from tests.book.reader import ENDLESS, Reader, UnknownCommandError
from tests.support.cli import Cli
from tests.support.until import run_until

TYPED = {name: found for name in site_names() if (found := commands((DOCS / name).read_text()))}
_DECIMAL = re.compile(r"-?\d+\.(\d+)")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, hub: Path) -> Reader:
    if not (ROOT / ".venv" / "ready").exists():
        pytest.skip("make would set up .venv first, and these tests run in another environment")
    return Reader(tmp_path_factory.mktemp("reader"), hub)


@pytest.fixture(scope="module")
def run_before() -> set[str]:
    """The kinds of the commands that earlier pages have run."""
    return set()


@pytest.mark.slow
@pytest.mark.parametrize("name", TYPED)
def test_commands_of_a_page_run(name: str, reader: Reader, run_before: set[str]) -> None:
    for found, output in command_blocks((DOCS / name).read_text()):
        printed = ""
        for command in found:
            kind = reader.kind(command)
            if output is not None or kind not in run_before:
                printed += reader.type(command)
                run_before.add(kind)
        if output is not None:
            assert_same_output(printed, output)


def assert_same_output(printed: str, shown: str) -> None:
    """Assert that two outputs are equal, but for one unit in the last decimal: other CPUs round differently."""
    decimals = [[*_DECIMAL.finditer(text)] for text in (printed, shown)]
    assert words(printed) == words(shown), f"printed:\n{printed}\nshown:\n{shown}"
    for ours, theirs in zip(*decimals, strict=True):
        assert abs(float(ours[0]) - float(theirs[0])) < 1.5 * 10.0 ** -len(theirs[1]), f"{ours[0]}, not {theirs[0]}"


def words(text: str) -> list[list[str]]:
    """Return the words of each line, with X for decimals."""
    return [_DECIMAL.sub("X", line).split() for line in text.strip("\n").splitlines()]


def test_outputs_may_differ_in_the_last_decimal_only() -> None:
    assert_same_output("a  1.24 -b\n", "\na 1.23 -b")
    for printed in ("a 1.26 -b", "a -1.24 -b", "a 1.24 -c", "a 1.24 -b\nc", "a 1.24"):
        with pytest.raises(AssertionError):
            assert_same_output(printed, "a 1.24 -b")


def test_every_step_shows_its_commands() -> None:
    for number in range(1, 15):
        found = TYPED[f"book/steps/step_{number:02}.md"]
        assert {f"make check STEP={number}", f"make hint STEP={number}"} <= set(found)


def test_unknown_commands_fail(reader: Reader) -> None:
    with pytest.raises(UnknownCommandError, match="rm -r everything"):
        reader.type("rm -r everything")
    with pytest.raises(AssertionError, match="no-such-target"):
        reader.kind("make no-such-target")
    with pytest.raises(AssertionError, match="exit code 2"):
        reader.type("max-gpt2 info --model ./nothing")


@pytest.mark.parametrize("command", ENDLESS)
def test_endless_commands_start(command: str, reader: Reader) -> None:
    reader.type(command)


def test_inline_mentions_of_commands_exist(cli: Cli) -> None:
    text = "\n".join((DOCS / name).read_text() for name in site_names())
    assert {*re.findall(r"`make ([a-z]+(?:-[a-z]+)*)", text)} <= TARGETS
    tasks = tomllib.loads((ROOT / "pixi.toml").read_text())["tasks"]
    assert {*re.findall(r"`pixi run ([a-z0-9-]+)", text)} <= set(tasks)
    for verb in {*re.findall(r"`max-gpt2 ([a-z]+(?:-[a-z]+)*)", text)}:
        known = cli(verb, "--help").out
        for line in re.findall(rf"`max-gpt2 {verb}([^`]*)`", text):
            assert {*re.findall(r"--[a-z-]+", line)} <= {*re.findall(r"--[a-z-]+", known)}, f"max-gpt2 {verb}{line}"


def test_port_in_use_is_reported(reader: Reader) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        out = run_until(f"make book PORT={port}", reader.folder, reader.variables, "Serving on")  # or exits
    assert f"127.0.0.1:{port} is already in use. Choose another port: make docs PORT={port + 1}" in out
    assert "Traceback" not in out
