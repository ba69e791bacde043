import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from max_gpt2.errors import ServeError
from max_gpt2.serve.launch import ListenAddress, check_listen_address, curl
from tests.support.cli import Cli, Outcome


def refused(outcome: Outcome) -> str:
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    return line


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused is refused before anything is started."""

    def fail(*_arguments: Any, **_options: Any) -> None:
        pytest.fail("it was not refused")

    monkeypatch.setattr("max_gpt2.serve.launch.run_server", fail)
    monkeypatch.delenv("MAX_GPT2_API_KEY", raising=False)


def test_other_addresses_need_a_key(cli: Cli) -> None:
    assert "--host 0.0.0.0 lets other machines in, and there is no key. Add --api-key KEY" in refused(
        cli("serve", "--host", "0.0.0.0", "--port", 0)
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_loopback_needs_none(host: str) -> None:
    check_listen_address(host, None, insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_a_key_or_insecure_opens_the_door(host: str) -> None:
    with pytest.raises(ServeError, match="there is no key"):
        check_listen_address(host, None, insecure=False)
    check_listen_address(host, "key", insecure=False)
    check_listen_address(host, None, insecure=True)


@pytest.mark.parametrize("key", ["", "two words", "ä", "tab\t"])
def test_keys_that_cannot_be_sent(cli: Cli, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "printable ASCII" in refused(cli("serve", "--api-key", key, "--port", 0))
    monkeypatch.setenv("MAX_GPT2_API_KEY", key or "a b")
    assert "printable ASCII" in refused(cli("serve", "--port", 0))


def test_a_taken_port_is_one_sentence(cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused(cli("serve", "--port", port))
        assert line == f"error: The port {port} of 127.0.0.1 is taken. End what listens there, or use --port."


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "no.such.host.invalid"], "is no address of this machine"),
        (["--host", "192.0.2.1", "--insecure"], "192.0.2.1 port"),
        (["--port", 70000], "--port"),
        (["--max-batch-size", 0], "--max-batch-size"),
        (["--queue-size", -1], "--queue-size"),
        (["--max-body-bytes", 5], "--max-body-bytes"),
        (["--drain-seconds", -1], "--drain-seconds"),
        (["--model", "/no/such/folder"], "/no/such/folder"),
    ],
)
def test_bad_options(cli: Cli, arguments: list[Any], says: str) -> None:
    assert says in refused(cli("serve", "--port", 0, *arguments))


def test_a_template_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    assert "x.jinja cannot be read" in refused(cli("serve", "--port", 0, "--chat-template", tmp_path / "x.jinja"))


def test_without_the_server_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['starlette'] = None; from max_gpt2.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert (done.returncode, done.stdout) == (2, "")
    assert "Install them: pip install 'max-gpt2[serve]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_curl() -> None:
    assert curl(ListenAddress("0.0.0.0", 80, "secret"), "it's") == (
        "curl http://127.0.0.1:80/v1/completions -H 'Content-Type: application/json' -H \"Authorization: Bearer "
        '$MAX_GPT2_API_KEY" -d \'{"model": "it\'\\\'\'s", "prompt": "It was", "max_tokens": 20}\''
    )
    assert ListenAddress("::1", 8000, None).url() == "http://[::1]:8000"
