"""Start the server and wait for it to exit."""

import asyncio
import ipaddress
import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from max_gpt2.errors import ServeError
from max_gpt2.serve.frontend.app import Frontend
from max_gpt2.serve.frontend.chat import ChatTemplate
from max_gpt2.serve.frontend.health import Health
from max_gpt2.serve.prepare import Prepared
from max_gpt2.serve.runtime.process import Launch
from max_gpt2.serve.runtime.server import ServerRunner
from max_gpt2.serve.runtime.supervisor import Policy, Supervisor
from max_gpt2.serve.settings import Limits, ServedModel
from max_gpt2.serve.worker.settings import ALLOW_NONFINITE, CACHE_BYTES_VARIABLE, PAGE_SIZE, WEIGHTS_VARIABLE
from max_gpt2.weights.types import DEFAULT_WEIGHTS, WeightsOption

#: Prompt tokens per forward pass, which bounds the workspace; MAX's default is up to 8,192. With 3,200, prefill took
#: 6 % longer, since the activations between two layers no longer fit into the processor's caches.
PROMPT_TOKENS = 1024


def worker_command(
    prepared: Prepared,
    port: int,
    *,
    name: str = "gpt2",
    host: str = "127.0.0.1",
    max_batch_size: int = 32,
) -> list[str]:
    """Return the command line of MAX's server, to be run with `worker_environment`.

    `name` is the model name that clients use; at most `max_batch_size` sequences run at a time.
    """
    command = [sys.executable, "-m", "max_gpt2.serve.worker.main", "serve"]
    command += ["--custom-architectures", "max_gpt2.serve", "--model-path", str(prepared.folder)]
    for path in prepared.weights:
        command += ["--weight-path", str(path)]
    command += ["--quantization-encoding", "float32", "--devices", "cpu", "--kv-cache-page-size", str(PAGE_SIZE)]
    command += ["--served-model-name", name, "--host", host, "--port", str(port)]
    command += ["--max-batch-size", str(max_batch_size), "--max-batch-input-tokens", str(PROMPT_TOKENS)]
    return [*command, "--max-length", str(prepared.config.n_positions)]


def worker_environment(
    metrics_port: int,
    *,
    cache_bytes: int | None = None,
    allow_nonfinite: bool = False,
    weights: WeightsOption = DEFAULT_WEIGHTS,
    base: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """Return the environment of MAX's server: no telemetry, no downloads, and metrics on `metrics_port`.

    `cache_bytes` is the size of the KV cache; None leaves it to `configured_cache_bytes`. `weights` is the type of the
    weights, as in `LoadOptions`.
    """
    changes = {
        "HF_HUB_OFFLINE": "1",
        "MAX_SERVE_METRICS_ENDPOINT_PORT": str(metrics_port),
        "MODULAR_TELEMETRY_ENABLED": "0",
        "OTEL_SDK_DISABLED": "true",
        "TOKENIZERS_PARALLELISM": "false",
        WEIGHTS_VARIABLE: weights,
    }
    if cache_bytes is not None:
        changes[CACHE_BYTES_VARIABLE] = str(cache_bytes)
    if allow_nonfinite:
        changes[ALLOW_NONFINITE] = "1"
    return {**base, **changes}


logger = logging.getLogger("max_gpt2.serve")


@dataclass(frozen=True)
class ListenAddress:
    """The address that the server listens on, and its API key."""

    host: str
    port: int
    key: str | None

    def url(self) -> str:
        """Return the base URL for clients."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host and '[' not in host else host}:{self.port}"


def check_listen_address(host: str, key: str | None, insecure: bool) -> None:
    """Raise ServeError for a key that clients cannot send, and for an address other than loopback without a key."""
    if key is not None and not (key and key.isascii() and key.isprintable() and " " not in key):
        raise ServeError("The API key must be printable ASCII without spaces, and not empty. Choose another one.")
    if key is None and not insecure and not _is_loopback(host):
        raise ServeError(
            f"--host {host} accepts connections from other machines, but there is no API key. Add --api-key KEY (or "
            "set MAX_GPT2_API_KEY), or add --insecure to allow access without a key."
        )


def check_origins(origins: Sequence[str]) -> None:
    """Raise ServeError for an origin that no browser sends."""
    for origin in origins:
        if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s?#@]+", origin) and origin != "null":
            raise ServeError(
                f"--allow-origin {origin} is not an origin: a scheme, a host and perhaps a port, without a path. "
                "Use for example https://chat.example.com, or * for all."
            )


def _is_loopback(host: str) -> bool:
    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo(host, None)}
    except OSError:
        return True  # not a valid address: `listen` reports it
    return all(ipaddress.ip_address(one.partition("%")[0]).is_loopback for one in found)


@dataclass(frozen=True)
class ServerOptions:
    """The optional parts of a server: its API key, its chat template, and the restart policy of its worker.

    Pages from `allow_origins` may use the server from a browser.
    """

    key: str | None = None
    template: ChatTemplate | None = None
    policy: Policy | None = None
    allow_origins: Sequence[str] = ()


def run_server(
    served: ServedModel,
    launch: Launch,
    listening: socket.socket,
    limits: Limits,
    options: ServerOptions = ServerOptions(),
    ready: Callable[[], None] = lambda: None,
) -> bool:
    """Serve until a signal; return True if a second signal forced an immediate stop.

    `ready` is called once, when the worker becomes ready. Raises ServeError if the worker cannot be started.
    """

    async def serve() -> bool:
        health = Health()
        frontend = Frontend(served, limits, health, options.key, options.template, options.allow_origins)
        policy = options.policy or replace(Policy(), stall_s=limits.stall_s)
        supervisor = Supervisor(
            launch, health, policy, lambda: frontend.admission.running, frontend.metrics.restarts.inc
        )
        runner = ServerRunner(frontend, health, supervisor, limits)
        await runner.run(listening, ready)
        return runner.forced

    return asyncio.run(serve())


def curl(address: ListenAddress, name: str) -> str:
    """Return an example request as a shell command that works without changes."""
    key = ' -H "Authorization: Bearer $MAX_GPT2_API_KEY"' if address.key is not None else ""
    body = f'{{"model": "{name}", "prompt": "It was", "max_tokens": 20}}'
    body = body.replace("'", "'\\''")
    return f"curl {address.url()}/v1/completions -H 'Content-Type: application/json'{key} -d '{body}'"
