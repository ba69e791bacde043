"""Refusals as OpenAI's API writes them: a JSON object with one `error`."""

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
    """A request that is answered with an error: the status, a sentence that says what to do, and the field at fault."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """Return the JSON that OpenAI's clients read."""
        type_ = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": type_, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """Return it as an answer; what may be tried again says when."""
        retry = {"Retry-After": str(RETRY_S)} if self.status in (429, 503) else {}
        return JSONResponse(self.body(), self.status, headers=retry | self.headers)


def bad_field(param: str, problem: str, code: str | None = None) -> RefusedError:
    """Return the 400 that names a field, what is wrong with it, and what to do."""
    return RefusedError(400, f"{param}: {problem}", param, code)


def incompatible_field(param: str, problem: str) -> RefusedError:
    """Return the 400 for a field that is right by itself, but not beside another."""
    return bad_field(param, problem, "incompatible_fields")


def worker_lost(detail: str) -> RefusedError:
    """Return the 503 for a request that the worker cannot answer."""
    return RefusedError(503, detail, code="worker_unavailable")
