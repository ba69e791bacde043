"""The body of a request: its type, its size, and JSON that says one thing only."""

import asyncio
import json
from typing import Any, NoReturn

from starlette.requests import Request

from max_gpt2.serve.front.errors import RefusedError
from max_gpt2.serve.front.served import Limits

_DROPPED = 16
_EXACT = 2**53


async def read_object(request: Request, limits: Limits) -> dict[str, Any]:
    """Return the JSON object that a request holds; raises RefusedError, or ClientDisconnect."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        said = f"is {kind!r}" if kind else "is missing"
        raise RefusedError(415, f"The content type {said}. Send JSON with Content-Type: application/json.")
    return _parse(await _read(request, limits))


async def _read(request: Request, limits: Limits) -> bytes:
    """Keep no more than the limit, and wait no longer than the time for it.

    The rest of what is too large is read and dropped as long as it is not much more: a client that is still sending
    when its connection is closed does not see the answer.
    """
    found, length = bytearray(), 0
    try:
        async with asyncio.timeout(limits.read_s):
            async for part in request.stream():
                length += len(part)
                if length <= limits.max_body_bytes:
                    found += part
                elif length > _DROPPED * limits.max_body_bytes:
                    break
    except TimeoutError:
        message = f"The body did not arrive within {limits.read_s:g} s. Send it again."
        raise RefusedError(408, message, headers={"Connection": "close"}) from None
    if length > limits.max_body_bytes:
        message = f"The body is larger than {limits.max_body_bytes} bytes. Send less, or start the server with "
        raise RefusedError(413, message + "--max-body-bytes.", headers={"Connection": "close"})
    return bytes(found)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise RefusedError(400, f"The body is not UTF-8 at byte {error.start}. Send JSON in UTF-8.") from None
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_number)
    except RecursionError:
        raise RefusedError(400, "The JSON is nested too deeply. Send an object of the documented form.") from None
    except json.JSONDecodeError as error:
        message = f"The body is not JSON: {error.msg} in line {error.lineno}, column {error.colno}. Correct it."
        raise RefusedError(400, message) from None
    except ValueError:  # a number of thousands of digits
        raise RefusedError(400, "The JSON holds a number that is too long. Send a smaller one.") from None
    if not isinstance(value, dict):
        raise RefusedError(400, "The body is JSON, but not an object. Send an object with the request's fields.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; of two fields of the same name one would be passed over."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RefusedError(400, f"The field {_short(twice)} is there twice. Send it once.", _short(twice))
    return found


def _number(text: str) -> float:
    """Read 5.0 as 5: to JSON they are the same number."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) <= _EXACT else value


def _no_constant(name: str) -> NoReturn:
    raise RefusedError(400, f"The body is not JSON: {name} is not a number. Send a finite one.")


def _short(name: str) -> str:
    """Return a name that is fit to be sent back: a lone surrogate cannot be."""
    return name[:100].encode("utf-8", "backslashreplace").decode()
