"""`max-gpt2 xray`: the file, the server, and what it refuses."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from max_gpt2.checkpoint import load_checkpoint
from max_gpt2.inspect.xray import Analysis, State
from tests.support.adapters import save_adapter
from tests.support.cli import Cli, refused


def test_file_is_written_whole(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.html"
    target.write_text("old")
    outcome = cli("xray", "The fox", "--model", tiny, "--bos", "--html", target)
    assert (outcome.code, outcome.out) == (0, ""), outcome.err
    data = json.loads(re.findall(r'id="data">(.+?)</script>', target.read_text())[0])
    assert (data["page"]["file"], data["page"]["text"], data["page"]["bos"]) == (True, "The fox", True)
    ids = [one["id"] for one in data["answers"]["view"]["tokens"]]
    tokenizer = load_checkpoint(tiny).tokenizer
    assert ids == [tokenizer.start_id, *tokenizer.encode("The fox")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.html", "tiny"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--html", "out.html"], '--html needs a text. Give one: max-gpt2 xray "text" --html FILE.'),
        (["text", "--html", "no/out.html"], "the folder no does not exist"),
        (["text", "--html", "."], ". is a folder. Give the path of a file."),
        (["text", "--html", "out.html", "--compare", "demo"], "Remove --compare"),
        (["a" * 400, "--html", "out.html"], "A trace needs 1 to 67, the context of the model"),
        (["", "--html", "out.html"], "The text is empty"),
        (["a" * 400, "--port", "0"], "A trace needs 1 to 67, the context of the model"),
        (["text", "--port", "0", "--compare", "missing-model"], "missing-model"),
        (["text", "--port", "70000"], "Invalid value for '--port'"),
    ],
)
def test_invalid_options_write_nothing(
    cli: Cli, tiny_original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("max_gpt2.cli.process.read_piped_text", lambda: None)
    assert message in refused(cli("xray", *arguments, "--model", tiny_original))
    assert list(tmp_path.iterdir()) == []


def test_port_in_use_is_named_before_anything_is_loaded(cli: Cli, tiny_original: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        err = refused(cli("xray", "text", "--model", tiny_original, "--port", port))
    assert f"Port {port} on 127.0.0.1 is already in use" in err
    assert "Loading" not in err


@pytest.mark.parametrize("missing", ["plotly", "starlette", "uvicorn"])
def test_missing_extra_is_named(tiny_original: Path, tmp_path: Path, missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from max_gpt2.cli import main; main()"
    arguments = ["xray", "text", "--model", str(tiny_original), "--html", str(tmp_path / "out.html")]
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=60)
    assert done.returncode == 2
    assert re.fullmatch(
        rf"error: The dependencies of the x-ray page are not installed \(no module {missing}[a-z.]*\)\. "
        r"Install them: pip install 'max-gpt2\[xray\]'\.\n",
        done.stderr,
    )


def test_server_answers_until_ctrl_c(tiny_original: Path) -> None:
    command = [sys.executable, "-m", "max_gpt2", "xray", "The fox", "--model", str(tiny_original), "--port", "0"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=dict(os.environ),
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        found = re.fullmatch(r"The page is at (http://127\.0\.0\.1:\d+/) until Ctrl-C\.\n", line)
        assert found, line
        with urllib.request.urlopen(f"{found[1]}api/page") as answer:
            assert json.load(answer)["text"] == "The fox"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, "")
        assert "Traceback" not in err
    finally:
        process.kill()
        process.wait()


def test_model_can_be_compared_with_itself_and_an_adapter(
    tiny_original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    adapter = save_adapter(tiny_original, tmp_path / "adapter")
    served: list[Analysis] = []
    monkeypatch.setattr("max_gpt2.inspect.xray.server.serve_page", lambda models, *_: served.extend(models))
    options = ("--model", tiny_original, "--adapter", adapter, "--compare", tiny_original, "--port", 0)
    assert cli("xray", "The fox", *options).code == 0
    assert [one.name for one in served] == [f"{tiny_original} + {adapter}", str(tiny_original)]
    first, second = (one.view(State((1, 2, 3)))["surprisal"]["data"] for one in served)
    assert first != second
