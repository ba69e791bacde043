"""From what was asked for on the command line to a server that runs, and back when it has ended."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace

from max_gpt2.errors import ServeError
from max_gpt2.serve.front.app import Front
from max_gpt2.serve.front.chat import ChatTemplate
from max_gpt2.serve.front.health import Health
from max_gpt2.serve.front.process import Launch
from max_gpt2.serve.front.served import Limits, Served
from max_gpt2.serve.front.server import Running
from max_gpt2.serve.front.supervisor import Policy, Supervisor

logger = logging.getLogger("max_gpt2.serve")


@dataclass(frozen=True)
class Door:
    """Where the server listens, and what opens it."""

    host: str
    port: int
    key: str | None

    def url(self) -> str:
        """Return the address as a client writes it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host and '[' not in host else host}:{self.port}"


def check_door(host: str, key: str | None, insecure: bool) -> None:
    """Raise ServeError for a key that cannot be sent, and for an address that others reach without one."""
    if key is not None and not (key and key.isascii() and key.isprintable() and " " not in key):
        raise ServeError("The API key is empty, or has other characters than printable ASCII. Choose another one.")
    if key is None and not insecure and not _is_loopback(host):
        raise ServeError(
            f"--host {host} lets other machines in, and there is no key. Add --api-key KEY (or set MAX_GPT2_API_KEY), "
            "or --insecure if whoever reaches this machine may use it."
        )


def _is_loopback(host: str) -> bool:
    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo(host, None)}
    except OSError:
        return True  # it is no address at all, which listening will say
    return all(ipaddress.ip_address(one.partition("%")[0]).is_loopback for one in found)


def run_server(
    served: Served,
    launch: Launch,
    listening: socket.socket,
    limits: Limits,
    *,
    key: str | None = None,
    template: ChatTemplate | None = None,
    policy: Policy | None = None,
    ready: Callable[[], None] = lambda: None,
) -> bool:
    """Serve until a signal; return whether a second one cut it short. `ready` is called when the worker is, once.

    Raises ServeError when the worker cannot be started.
    """

    async def serve() -> bool:
        health = Health()
        front = Front(served, limits, health, key, template)
        patience = policy or replace(Policy(), stall_s=limits.stall_s)
        supervisor = Supervisor(launch, health, patience, lambda: front.places.texts, front.metrics.restarts.inc)
        running = Running(front, health, supervisor, limits)
        await running.run(listening, ready)
        return running.forced

    return asyncio.run(serve())


def curl(door: Door, name: str) -> str:
    """Return a command that works as it stands."""
    key = ' -H "Authorization: Bearer $MAX_GPT2_API_KEY"' if door.key is not None else ""
    body = f'{{"model": "{name}", "prompt": "It was", "max_tokens": 20}}'
    body = body.replace("'", "'\\''")
    return f"curl {door.url()}/v1/completions -H 'Content-Type: application/json'{key} -d '{body}'"
