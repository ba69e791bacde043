"""Error responses in the format of OpenAI's API: a JSON object with the key `error`."""

from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse

_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}
RETRY_S = 1


@dataclass
class RefusedError(Exception):
    """A request answered with an error: the HTTP status, a message that ends with a remedy, and the invalid field."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """Return the JSON body in OpenAI's format."""
        type_ = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": type_, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """Return the HTTP response; 429 and 503 have a Retry-After header."""
        retry = {"Retry-After": str(RETRY_S)} if self.status in (429, 503) else {}
        return JSONResponse(self.body(), self.status, headers=retry | self.headers)


def bad_field(param: str, problem: str, code: str | None = None) -> RefusedError:
    """Return a 400 for an invalid field; `problem` states what is wrong and what to do."""
    return RefusedError(400, f"{param}: {problem}", param, code)


def incompatible_field(param: str, problem: str) -> RefusedError:
    """Return a 400 for a field that is valid by itself but conflicts with another one."""
    return bad_field(param, problem, "incompatible_fields")


def worker_lost(message: str) -> RefusedError:
    """Return a 503 for a request that the worker cannot answer."""
    return RefusedError(503, message, code="worker_unavailable")
