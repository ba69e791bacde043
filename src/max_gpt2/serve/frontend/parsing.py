"""Reads the body of a request, and validates its fields; errors are 400 and name the field."""

import asyncio
import difflib
import json
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError
from starlette.requests import Request

from max_gpt2.serve.frontend.errors import RefusedError, bad_field, incompatible_field
from max_gpt2.serve.frontend.schema import MAX_STOPS, PARTS_TAG, TEXT_TAG, UNSUPPORTED_FIELDS, CommonFields, Fields
from max_gpt2.serve.settings import Limits, ServedModel

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


Kind = TypeVar("Kind", bound=Fields)
_LONGEST_VALUE = 60


def check_fields(kind: type[Kind], given: dict[str, Any]) -> Kind:
    """Return the fields of one kind of request; raises RefusedError."""
    known = dict(given)
    for name in given:
        check_unicode("the name of a field", name)
    for name, problem in UNSUPPORTED_FIELDS.items():
        if name not in kind.model_fields and name in known:
            value = known.pop(name)
            if value is not None and not (name == "response_format" and value == {"type": "text"}):
                raise bad_field(name, problem, "unsupported_field")
    try:
        return kind.model_validate(known)
    except ValidationError as error:
        raise _refusal(kind, error) from None


def check_model(name: str, served: ServedModel) -> None:
    """Raise a 404 for a model that is not served."""
    if name != served.name:
        message = f"The model {format_value(name)} is not served here. Use {served.name!r}, or ask /v1/models."
        raise RefusedError(404, message, "model", "model_not_found")


def check_stream(fields: CommonFields) -> None:
    """Raise a 400 for stream_options without a stream."""
    if fields.stream_options is not None and not fields.stream:
        raise incompatible_field("stream_options", "it goes with stream only. Add stream: true, or leave it out.")


def check_stops(value: object) -> list[str]:
    """Return the stop strings."""
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list):
        raise bad_field("stop", f"{format_value(value)} is neither a string nor a list of strings. Correct it.")
    if len(stops) > MAX_STOPS:
        raise bad_field("stop", f"there are {len(stops)} strings, and at most {MAX_STOPS} are possible. Send fewer.")
    for place, one in enumerate(stops):
        param = "stop" if isinstance(value, str) else f"stop[{place}]"
        if not isinstance(one, str):
            raise bad_field(param, f"{format_value(one)} is not a string. Correct it.")
        if not one:
            raise bad_field(param, "the string is empty, and every text would end before it. Leave it out.")
        check_unicode(param, one)
    return stops


def check_bias(value: object, served: ServedModel) -> dict[str, float]:
    """Return what is added to which ids' logits; the ids are those that the tokenizer can write."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_field("logit_bias", f"{format_value(value)} is not an object of ids and numbers. Correct it.")
    found: dict[str, float] = {}
    for name, bias in value.items():
        known = name.isascii() and name.isdecimal() and int(name[:20]) < served.tokenizer.size
        if not known:
            problem = f"{format_value(name)} is not an id in 0 .. {served.tokenizer.size - 1}. Correct it."
            raise bad_field("logit_bias", problem, "id_out_of_range")
        if not isinstance(bias, (int, float)) or isinstance(bias, bool) or not -100 <= bias <= 100:
            raise bad_field(
                "logit_bias", f"{format_value(bias)} for the id {int(name)} is not in -100 .. 100. Correct it."
            )
        found[str(int(name))] = float(bias)
    return found


def check_unicode(param: str, text: str) -> None:
    """Raise a 400 for a text with a lone surrogate, which is no Unicode and has no bytes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise bad_field(param, f"it is not valid Unicode at position {error.start}. Correct it.") from None


def format_value(value: object) -> str:
    """Return a value as a message shows it: short, and of characters that can be sent."""
    text = repr(value) if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__
    text = {"list": "a list", "dict": "an object", "True": "true", "False": "false", "None": "null"}.get(text, text)
    text = text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]} ..."
    return text.encode("utf-8", "backslashreplace").decode()


def _refusal(kind: type[Fields], error: ValidationError) -> RefusedError:
    """Say the first thing that is wrong; unknown names come with the nearest known one."""
    first = error.errors(include_url=False, include_context=False)[0]
    param = ""
    for part in first["loc"]:
        if part in (TEXT_TAG, PARTS_TAG):
            continue
        param += f"[{part}]" if isinstance(part, int) else f".{part}" if param else str(part)
    param = param[:200].encode("utf-8", "backslashreplace").decode()
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(param, kind.model_fields, 1)
        hint = f"Did you mean {near[0]}?" if near else "Leave it out."
        return bad_field(param, f"there is no such field. {hint}", "unknown_field")
    if first["type"] == "missing":
        return bad_field(param, "the field is required. Add it.", "missing_field")
    if first["type"] == "string_unicode":
        return bad_field(param, "it is not valid Unicode. Correct it.")
    problem = first["msg"].replace("Input should", "it should").replace("Value should", "it should")
    return bad_field(param, f"{problem[:1].lower()}{problem[1:]}, and is {format_value(first['input'])}. Correct it.")
