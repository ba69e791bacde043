"""Exit codes, errors and standard input of the whole program."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from max_gpt2.checkpoint import Checkpoint
from tests.support.cli import Cli


def test_internal_error_has_no_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_args: object, **_options: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("max_gpt2.checkpoint.inspect_checkpoint", explode)
    outcome = cli("info")
    assert outcome.code == 70
    assert "Internal error (ZeroDivisionError: oh)" in outcome.err
    assert "Traceback" not in outcome.err


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "max_gpt2", *map(str, arguments)]
    # os.environ lacks the variables that MAX's libraries set, which would hide the virtual environment.
    variables = os.environ | environment
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)


def test_ctrl_c_during_compilation_exits_cleanly(tiny_original: Path, tmp_path: Path) -> None:
    empty_cache = {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    with start("generate", "--model", tiny_original, **empty_cache) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert next(line for line in lines if line.startswith("Loading the weights"))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert out == ""
    assert "Stopped by Ctrl-C" in err
    assert "Traceback" not in err


def test_closed_pipe_is_not_an_error(tiny_original: Path) -> None:
    with start("info", "--model", tiny_original) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_unreachable_hub_is_one_error(tmp_path: Path) -> None:
    nowhere = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    with start("generate", "--model", "gpt2", **nowhere) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "the Hugging Face hub cannot be reached" in err
    assert "--model demo" in err


def test_only_verify_requires_pytorch(tiny_original: Path) -> None:
    """Run the commands in a process that cannot import PyTorch or transformers."""
    program = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None;from max_gpt2.cli import main; main()"
    )

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program, *map(str, arguments), "--model", str(tiny_original)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))

    for _ in range(2):  # the second run loads the compiled graph from the cache
        generated = run("generate", "The dog", "--max-new-tokens", 3, "--json")
        assert generated.returncode == 0, generated.stderr
        assert json.loads(generated.stdout)["prompt_tokens"]
        assert "Exception" not in generated.stderr
    assert run("info").returncode == 0
    refusal = run("verify")
    assert refusal.returncode == 2
    assert "pip install 'max-gpt2[compare]'" in refusal.stderr


@pytest.mark.parametrize(
    ("given", "prompt"), [(b"The dog\n", "The dog"), (b"two\nlines\r\n", "two\nlines"), (b"", None)]
)
def test_standard_input_is_the_prompt(
    tiny_original: Path, tiny_checkpoint: Checkpoint, given: bytes, prompt: str | None
) -> None:
    command = [sys.executable, "-m", "max_gpt2", "generate", "--model", str(tiny_original), "--max-new-tokens", "2"]
    done = subprocess.run([*command, "--json"], input=given, capture_output=True, check=True, env=dict(os.environ))
    expected = [299] if prompt is None else tiny_checkpoint.tokenizer.encode(prompt)
    assert json.loads(done.stdout)["prompt_tokens"] == expected
    assert ("The prompt is empty" in done.stderr.decode()) == (prompt is None)


def test_standard_input_that_is_not_utf_8_is_rejected(tiny_original: Path) -> None:
    command = [sys.executable, "-m", "max_gpt2", "generate", "--model", str(tiny_original)]
    done = subprocess.run(command, input=b"a\xff", capture_output=True, check=False, env=dict(os.environ))
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"error: Standard input is not UTF-8 at byte 2. Convert it to UTF-8.\n"
