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


def test_an_error_that_nobody_foresaw_is_one_sentence(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_args: object, **_options: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("max_gpt2.checkpoint.inspect_checkpoint", explode)
    outcome = cli("info")
    assert outcome.code == 70
    assert "Internal error (ZeroDivisionError: oh)" in outcome.err
    assert "Traceback" not in outcome.err


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "max_gpt2", *map(str, arguments)]
    # Without `env` a child would inherit what MAX has set behind Python's back, which hides the virtual environment.
    variables = os.environ | environment
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)


def test_ctrl_c_while_max_compiles(tiny_original: Path, tmp_path: Path) -> None:
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


def test_a_reader_that_has_seen_enough_is_no_error(tiny_original: Path) -> None:
    with start("info", "--model", tiny_original) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_without_a_network_it_says_so_in_one_line(tmp_path: Path) -> None:
    nowhere = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    with start("generate", "--model", "gpt2", **nowhere) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "the Hugging Face hub cannot be reached" in err
    assert "--model demo" in err


def test_nothing_but_comparing_needs_pytorch(tiny_original: Path) -> None:
    """The whole way from a folder to a text, in a process where importing PyTorch and transformers fails."""
    program = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None;from max_gpt2.cli import main; main()"
    )

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program, *map(str, arguments), "--model", str(tiny_original)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))

    for _ in range(2):  # the second finds the compiled graph in its file
        generated = run("generate", "The dog", "--max-new-tokens", 3, "--json")
        assert generated.returncode == 0, generated.stderr
        assert json.loads(generated.stdout)["prompt_tokens"]
        assert "Exception" not in generated.stderr
    assert run("info").returncode == 0
    refusal = run("verify")
    assert refusal.returncode == 2
    assert "pip install 'max-gpt2[compare]'" in refusal.stderr


@pytest.mark.parametrize(
    ("given", "tokens", "says"),
    [(b"The dog\n", "The dog", ""), (b"two\nlines\r\n", "two\nlines", ""), (b"", None, "The prompt is empty")],
)
def test_a_pipe_is_the_prompt(
    tiny_original: Path, tiny_checkpoint: object, given: bytes, tokens: str | None, says: str
) -> None:

    assert isinstance(tiny_checkpoint, Checkpoint)
    command = [sys.executable, "-m", "max_gpt2", "generate", "--model", str(tiny_original), "--max-new-tokens", "2"]
    done = subprocess.run([*command, "--json"], input=given, capture_output=True, check=True, env=dict(os.environ))
    expected = [299] if tokens is None else tiny_checkpoint.tokenizer.encode(tokens)
    assert json.loads(done.stdout)["prompt_tokens"] == expected
    assert ("The prompt is empty" in done.stderr.decode()) == bool(says)


def test_a_pipe_that_is_no_text(tiny_original: Path) -> None:
    command = [sys.executable, "-m", "max_gpt2", "generate", "--model", str(tiny_original)]
    done = subprocess.run(command, input=b"a\xff", capture_output=True, check=False, env=dict(os.environ))
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"error: Standard input is not UTF-8 at byte 2. Convert it to UTF-8.\n"
