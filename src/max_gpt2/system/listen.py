"""Listen on a port."""

import errno
import socket

from max_gpt2.errors import ServeError


def listen(host: str, port: int) -> socket.socket:
    """Bind a port and listen on it; raises ServeError if that fails."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, number)
    except OSError as error:
        raise ServeError(
            f"--host {host} is not an address of this machine ({error}). Choose another --host."
        ) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise ServeError(
                f"Port {port} on {host} is already in use. Stop the process that uses it, or choose another --port."
            ) from error
        raise ServeError(
            f"Cannot listen on {host} port {port}: {error.strerror}. Choose another address or --port."
        ) from error
    return listening
