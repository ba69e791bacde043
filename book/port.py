"""Say in a sentence when the book cannot be served because something else is served there."""

import socket
from typing import Any

from mkdocs.exceptions import Abort

#: What is left to look at: the port, once, before MkDocs takes it.
_LEFT: set[str] = set()


def on_startup(command: str, **_: Any) -> None:
    """Remember that there will be a server; called by MkDocs."""
    if command == "serve":
        _LEFT.add("port")


def on_config(config: Any) -> None:
    """Raise Abort when the port is taken; called by MkDocs before each build."""
    if "port" not in _LEFT:
        return
    _LEFT.remove("port")
    host, port = config.dev_addr
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Abort(f"{host}:{port} is in use already. Choose another port: make book PORT={port + 1}") from error
