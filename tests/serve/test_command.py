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
    """Fail if a server is started: errors must be raised before."""

    def fail(*_arguments: Any, **_options: Any) -> None:
        pytest.fail("the command was not refused")

    monkeypatch.setattr("max_gpt2.serve.launch.run_server", fail)
    monkeypatch.delenv("MAX_GPT2_API_KEY", raising=False)


def test_public_address_without_a_key_is_refused(cli: Cli) -> None:
    line = refused(cli("serve", "--host", "0.0.0.0", "--port", 0))
    assert "--host 0.0.0.0 accepts connections from other machines, but there is no API key. Add --api-key KEY" in line


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_loopback_address_needs_no_key(host: str) -> None:
    check_listen_address(host, None, insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_public_address_needs_a_key_or_insecure(host: str) -> None:
    with pytest.raises(ServeError, match="there is no API key"):
        check_listen_address(host, None, insecure=False)
    check_listen_address(host, "key", insecure=False)
    check_listen_address(host, None, insecure=True)


@pytest.mark.parametrize("key", ["", "two words", "ä", "tab\t"])
def test_key_that_clients_cannot_send_is_refused(cli: Cli, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "printable ASCII" in refused(cli("serve", "--api-key", key, "--port", 0))
    monkeypatch.setenv("MAX_GPT2_API_KEY", key or "a b")
    assert "printable ASCII" in refused(cli("serve", "--port", 0))


def test_used_port_is_refused(cli: Cli) -> None:
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        port = used.getsockname()[1]
        line = refused(cli("serve", "--port", port))
    assert line == (
        f"error: Port {port} on 127.0.0.1 is already in use. Stop the process that uses it, or choose another --port."
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "no.such.host.invalid"], "is not an address of this machine"),
        (["--host", "192.0.2.1", "--insecure"], "192.0.2.1 port"),
        (["--port", 70000], "--port"),
        (["--max-batch-size", 0], "--max-batch-size"),
        (["--queue-size", -1], "--queue-size"),
        (["--max-body-bytes", 5], "--max-body-bytes"),
        (["--drain-seconds", -1], "--drain-seconds"),
        (["--model", "/no/such/folder"], "/no/such/folder"),
    ],
)
def test_invalid_option_is_refused(cli: Cli, arguments: list[Any], message: str) -> None:
    assert message in refused(cli("serve", "--port", 0, *arguments))


def test_missing_template_is_refused(cli: Cli, tmp_path: Path) -> None:
    assert "x.jinja cannot be read" in refused(cli("serve", "--port", 0, "--chat-template", tmp_path / "x.jinja"))


def test_missing_dependencies_are_named_with_the_install_command() -> None:
    program = "import sys; sys.modules['starlette'] = None; from max_gpt2.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert (done.returncode, done.stdout) == (2, "")
    assert "Install them: pip install 'max-gpt2[serve]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_curl_quotes_the_model_name_and_sends_the_key() -> None:
    assert curl(ListenAddress("0.0.0.0", 80, "secret"), "it's") == (
        "curl http://127.0.0.1:80/v1/completions -H 'Content-Type: application/json' -H \"Authorization: Bearer "
        '$MAX_GPT2_API_KEY" -d \'{"model": "it\'\\\'\'s", "prompt": "It was", "max_tokens": 20}\''
    )
    assert ListenAddress("::1", 8000, None).url() == "http://[::1]:8000"
