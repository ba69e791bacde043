"""Every command on the pages of the site runs, and inline mentions of commands are correct."""

import re
import socket
import tomllib
from pathlib import Path

import pytest

from tests.book.pages import DOCS, ROOT, commands, site_names
from tests.book.reader import ENDLESS, Reader, UnknownCommandError
from tests.support.cli import Cli
from tests.support.until import run_until

TYPED = {name: found for name in site_names() if (found := commands((DOCS / name).read_text()))}
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
    for command in TYPED[name]:
        kind = reader.kind(command)
        if kind not in run_before:
            reader.type(command)
            run_before.add(kind)


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
    for verb in {*re.findall(r"`max-gpt2 ([a-z]+)", text)}:
        known = cli(verb, "--help").out
        for line in re.findall(rf"`max-gpt2 {verb}([^`]*)`", text):
            assert {*re.findall(r"--[a-z-]+", line)} <= {*re.findall(r"--[a-z-]+", known)}, f"max-gpt2 {verb}{line}"


def test_port_in_use_is_reported(reader: Reader) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        out = run_until(f"make book PORT={port}", reader.folder, reader.variables, "Serving on")  # or exits
    assert f"127.0.0.1:{port} is already in use. Choose another port: make docs PORT={port + 1}" in out
    assert "Traceback" not in out
