"""The configurations in deploy/, checked with Debian's nginx and two servers."""

import concurrent.futures
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from max_gpt2.serve.runtime.process import free_ports
from tests.serve.frontend.fake_worker import DIE, SLOW
from tests.serve.frontend.servers import eventually
from tests.serve.runtime.server_process import Server, server
from tests.support.cli import Cli

DEPLOY = Path(__file__).parents[3] / "deploy"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx)")
NGINX_CONF = """daemon off; error_log stderr warn; pid {folder}/nginx.pid; worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  include {folder}/site.conf;
}}"""


class Site:
    """An nginx and the two servers behind it."""

    def __init__(self, url: str, first: Server, second: Server) -> None:
        self.url, self.first, self.second = url, first, second

    def complete(self, prompt: list[int], count: int = 2) -> httpx.Response:
        body = {"model": "tiny", "prompt": prompt, "max_tokens": count}
        return httpx.post(f"{self.url}/v1/completions", json=body, timeout=20)


@pytest.fixture
def site(tiny_original: Path, tmp_path: Path) -> Iterator[Site]:
    assert NGINX is not None
    (port,) = free_ports(1)
    with server(tiny_original) as first, server(tiny_original) as second:
        text = (DEPLOY / "nginx.conf").read_text()
        for old, new in (("8001", first.client.base_url.port), ("8002", second.client.base_url.port), ("8080", port)):
            assert old in text
            text = text.replace(old, str(new))
        (tmp_path / "site.conf").write_text(text)
        (tmp_path / "nginx.conf").write_text(NGINX_CONF.format(folder=tmp_path))
        command = [NGINX, "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
        subprocess.run([*command, "-t", "-q"], check=True, capture_output=True)
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        url = f"http://127.0.0.1:{port}"
        try:
            eventually(lambda: is_healthy(url))
            yield Site(url, first, second)
        finally:
            process.terminate()
            process.wait(10)


def is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.HTTPError:
        return False


@needs_nginx
def test_both_servers_receive_requests(site: Site) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: site.complete([SLOW], 10), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    for one in (site.first, site.second):
        page = one.client.get("/metrics").text
        assert 'max_gpt2_requests_total{path="/v1/completions",status="200"}' in page
    assert httpx.get(f"{site.url}/metrics").status_code == 404


@needs_nginx
def test_stopping_one_server_loses_no_request(site: Site) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = [pool.submit(site.complete, [SLOW], 40) for _ in range(4)]
        eventually(lambda: site.first.has_running(2) and site.second.has_running(2))
        site.first.process.terminate()
        later = [site.complete([10]) for _ in range(20)]
        assert {answer.status_code for answer in [*later, *(one.result() for one in running)]} == {200}
    assert site.first.process.wait(10) == 0


@needs_nginx
def test_other_server_answers_while_a_worker_restarts(site: Site) -> None:
    site.first.complete([DIE])
    assert {site.complete([10]).status_code for _ in range(20)} == {200}
    eventually(site.first.is_ready_again)


@needs_nginx
def test_stream_is_not_buffered(site: Site) -> None:
    body = {"model": "tiny", "prompt": [SLOW], "max_tokens": 10, "stream": True}
    times = []
    with httpx.stream("POST", f"{site.url}/v1/completions", json=body) as answer:
        for line in answer.iter_lines():
            if line:
                times.append(time.monotonic())
    assert times[-1] - times[0] > 0.3


def test_unit_and_container_use_existing_options(cli: Cli) -> None:
    known = cli("serve", "--help").out
    unit = (DEPLOY / "max-gpt2@.service").read_text().partition("ExecStart=")[2].partition("\n")[0]
    container = (DEPLOY / "Containerfile").read_text().partition("ENTRYPOINT")[2]
    for text in (unit, container):
        used = re.findall(r"--[a-z-]+", text)
        assert "--port" in used
        assert [option for option in used if f"  {option} " not in known] == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_unit_is_valid(tmp_path: Path) -> None:
    unit = (DEPLOY / "max-gpt2@.service").read_text().replace("/opt/max-gpt2/.venv/bin/max-gpt2", "/bin/true")
    (tmp_path / "max-gpt2@8001.service").write_text(unit)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "max-gpt2@8001.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in done.stderr.splitlines() if "max-gpt2" in line] == []
