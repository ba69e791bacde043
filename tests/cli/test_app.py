"""`max-gpt2 --help`, suggestions and shell completion."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from max_gpt2.cli.app import GROUPS, app, command_name
from tests.support.cli import Cli, refused


def test_help_groups_commands_with_whole_summaries(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = cli("--help").out.splitlines()
    assert "..." not in "\n".join(lines[3:])
    for group, commands in GROUPS.items():
        assert f"{group}:" in lines
        for command in commands:
            name = command_name(command)
            described = command.info.help if isinstance(command, typer.Typer) else command.__doc__
            summary = str(described).splitlines()[0]
            assert any(line.split(maxsplit=1) == [name, summary.rstrip(".")] for line in lines) or any(
                line.split(maxsplit=1) == [name, summary] for line in lines
            ), name
    assert len(app.registered_commands) + len(app.registered_groups) == sum(map(len, GROUPS.values()))


def test_suggestion_is_one_well_formed_sentence(cli: Cli) -> None:
    error = cli("generte").err
    assert error == (
        "error: No such command 'generte'. Did you mean 'generate'? Use --help to list the available options.\n"
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_lists_commands(shell: str) -> None:
    environment = os.environ | {
        "_MAX_GPT2_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "max-gpt2 conv",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "max-gpt2 conv",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    program = "import sys; sys.argv[0] = 'max-gpt2'; from max_gpt2.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "convert" in done.stdout


def test_version_and_unknown_commands(cli: Cli) -> None:
    assert "Checkpoints:" in cli().out
    assert cli("--version").out == "0.1.0\n"
    assert "unknown" not in cli("generate", "--help").out
    assert refused(cli("frobnicate")).startswith("error: No such command 'frobnicate'")


def test_command_is_installed() -> None:
    command = shutil.which("max-gpt2", path=str(Path(sys.executable).parent))
    assert command is not None
    shown = subprocess.run([command, "--version"], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert shown.stdout == "0.1.0\n"


@pytest.mark.parametrize(("command", "suggested"), [("generate", True), ("beams", False)])
def test_only_commands_that_shift_the_context_suggest_it(
    cli: Cli, tiny_original: Path, command: str, suggested: bool
) -> None:
    message = refused(cli(command, "--model", tiny_original, "--prompt-ids", ",".join(["5"] * 68)))
    assert "68 tokens exceed the model's context of 67" in message
    assert ("context_overflow" in message) is suggested
