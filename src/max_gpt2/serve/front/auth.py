"""The key that clients send, compared so that the time tells nothing about it."""

import hashlib
import hmac

from starlette.requests import Request

from max_gpt2.serve.front.errors import RefusedError

OPEN_PATHS = ("/health",)


class Keys:
    """Lets requests in that bear the key; all of them when there is none."""

    def __init__(self, key: str | None) -> None:
        """Keep a digest only: digests are all of one length."""
        self._digest = None if key is None else _digest(key.encode())

    def check(self, request: Request) -> None:
        """Raise a 401 for a request without the key, unless its path is open to all."""
        if self._digest is None or request.url.path in OPEN_PATHS:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(_digest(given.strip().encode("latin-1", "replace")), self._digest)
        if scheme.lower() != "bearer" or not right:
            raise RefusedError(
                401,
                "The API key is missing or wrong. Send it as: Authorization: Bearer KEY.",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
