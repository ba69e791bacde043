"""Reads the body of a request and validates its fields; an invalid field is a 400 that names it."""

import asyncio
import difflib
import json
import re
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError
from starlette.requests import Request

from max_gpt2._files import first_duplicate
from max_gpt2.serve.frontend.errors import RefusedError, bad_field, incompatible_field
from max_gpt2.serve.frontend.schema import (
    MAX_STOP_IDS,
    MAX_STOPS,
    PARTS_TAG,
    TEXT_TAG,
    UNKNOWN_FIELD,
    UNSUPPORTED_FIELDS,
    CommonFields,
    Fields,
    whole_number,
)
from max_gpt2.serve.settings import Limits, ServedModel

#: Bodies of up to this many times the limit are read to their end, so that the client sees the 413.
_DISCARD_FACTOR = 16
#: Objects and lists in a body: prompts, messages and their parts.
_MAX_CONTAINERS = 20_000


async def read_body(request: Request, limits: Limits) -> bytes:
    """Return the body of a request with JSON; raises RefusedError or ClientDisconnect."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        problem = f"is {kind!r}" if kind else "is missing"
        raise RefusedError(415, f"The content type {problem}. Send JSON with Content-Type: application/json.")
    return await _read(request, limits)


async def _read(request: Request, limits: Limits) -> bytes:
    """Read the body within the limits of size and time.

    The rest of a body that is too large is read and discarded up to `_DISCARD_FACTOR`: a client that is still sending
    when its connection is closed does not see the response.
    """
    found, length = bytearray(), 0
    try:
        async with asyncio.timeout(limits.read_s):
            async for part in request.stream():
                length += len(part)
                if length <= limits.max_body_bytes:
                    found += part
                elif length > _DISCARD_FACTOR * limits.max_body_bytes:
                    break
    except TimeoutError:
        message = f"The body did not arrive within {limits.read_s:g} s. Send the request again."
        raise RefusedError(408, message, headers={"Connection": "close"}) from None
    if length > limits.max_body_bytes:
        message = (
            f"The body is larger than {limits.max_body_bytes} bytes. Send a smaller one, or start the server with a "
            "larger --max-body-bytes."
        )
        raise RefusedError(413, message, headers={"Connection": "close"})
    return bytes(found)


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body; raises RefusedError. The time is linear in the size of the body."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise RefusedError(400, f"The body is not valid UTF-8 at byte {error.start}. Send JSON in UTF-8.") from None
    _check_containers(text)
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise RefusedError(400, "The JSON is nested too deeply. Send an object as in /openapi.json.") from None
    except json.JSONDecodeError as error:
        message = f"The body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}. Correct it."
        raise RefusedError(400, message) from None
    except ValueError:  # Python does not parse integers of more than 4,300 digits
        raise RefusedError(400, "A number in the JSON has too many digits. Send a smaller one.") from None
    if not isinstance(value, dict):
        raise RefusedError(400, "The body is valid JSON, but not an object. Send an object with the request's fields.")
    return value


def _check_containers(text: str) -> None:
    """Raise a 400 for more objects and lists than any valid request has: each costs far more than its two bytes."""
    if text.count("[") + text.count("{") <= _MAX_CONTAINERS:
        return
    outside = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])  # the JSON without its strings
    if outside.count("[") + outside.count("{") > _MAX_CONTAINERS:
        raise RefusedError(400, f"The JSON has more than {_MAX_CONTAINERS} objects and lists. Send fewer.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; raises a 400 for duplicate fields, all but the last of which `json` would ignore."""
    found = dict(pairs)
    if len(found) < len(pairs):
        duplicate = _short(first_duplicate(name for name, _ in pairs))
        raise RefusedError(400, f"The field {duplicate} appears more than once. Send it once.", duplicate)
    return found


def _no_constant(name: str) -> NoReturn:
    raise RefusedError(400, f"The body is not valid JSON: {name} is not allowed. Send a finite number.")


def _short(name: str) -> str:
    """Return a name in a form that can be sent back: truncated, and with lone surrogates escaped."""
    return name[:100].encode("utf-8", "backslashreplace").decode()


Kind = TypeVar("Kind", bound=Fields)
_MAX_VALUE_LENGTH = 60


def check_fields(kind: type[Kind], given: dict[str, Any]) -> Kind:
    """Return the validated fields of a request; raises RefusedError."""
    known = dict(given)
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
        message = f"The model {format_value(name)} is not served here. Use {served.name!r}."
        raise RefusedError(404, message, "model", "model_not_found")


def check_stream(fields: CommonFields) -> None:
    """Raise a 400 for `stream_options` without `stream`."""
    if fields.stream_options is not None and not fields.stream:
        raise incompatible_field("stream_options", "it requires stream: true. Add that, or leave out stream_options.")


def check_stops(value: object) -> list[str]:
    """Return the stop strings; raises RefusedError."""
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list):
        raise bad_field("stop", f"{format_value(value)} is neither a string nor a list of strings. Correct it.")
    if len(stops) > MAX_STOPS:
        raise bad_field("stop", f"there are {len(stops)} strings; the maximum is {MAX_STOPS}. Send fewer.")
    for index, one in enumerate(stops):
        param = "stop" if isinstance(value, str) else f"stop[{index}]"
        if not isinstance(one, str):
            raise bad_field(param, f"{format_value(one)} is not a string. Correct it.")
        if not one:
            raise bad_field(param, "the string is empty and would match immediately. Remove it.")
        check_unicode(param, one)
    return stops


def check_stop_ids(value: object, served: ServedModel) -> tuple[int, ...]:
    """Return the token ids that end a text; raises RefusedError."""
    ids = [] if value is None else value
    if not isinstance(ids, list):
        raise bad_field("stop_ids", f"{format_value(value)} is not a list of token ids. Correct it.")
    if len(ids) > MAX_STOP_IDS:
        raise bad_field("stop_ids", f"there are {len(ids)} ids; the maximum is {MAX_STOP_IDS}. Send fewer.")
    for index, one in enumerate(ids := [whole_number(one) for one in ids]):
        if not isinstance(one, int) or isinstance(one, bool):
            raise bad_field(f"stop_ids[{index}]", f"{format_value(one)} is not a token id. Send an integer.")
        if not 0 <= one < served.config.vocab_size:
            problem = f"the token id {format_value(one)} is not in 0 .. {served.config.vocab_size - 1}. Remove it."
            raise bad_field(f"stop_ids[{index}]", problem, "id_out_of_range")
    return tuple(ids)


def check_bias(value: object, served: ServedModel) -> dict[str, float]:
    """Return the biases by token id; raises RefusedError, also for an id that the tokenizer does not have."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        problem = f"{format_value(value)} is not an object that maps token ids to numbers. Correct it."
        raise bad_field("logit_bias", problem)
    found: dict[str, float] = {}
    for name, bias in value.items():
        known = name.isascii() and name.isdecimal() and len(name) <= 20 and int(name) < served.tokenizer.size
        if not known:
            problem = f"{format_value(name)} is not a token id in 0 .. {served.tokenizer.size - 1}. Correct it."
            raise bad_field("logit_bias", problem, "id_out_of_range")
        if not isinstance(bias, (int, float)) or isinstance(bias, bool) or not -100 <= bias <= 100:
            problem = f"{format_value(bias)} for token id {int(name)} is not a number in -100 .. 100. Correct it."
            raise bad_field("logit_bias", problem)
        found[str(int(name))] = float(bias)
    return found


def check_unicode(param: str, text: str) -> None:
    """Raise a 400 for a text with a lone surrogate, which UTF-8 cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise bad_field(param, f"it is not valid Unicode at position {error.start}. Correct it.") from None


def format_value(value: object) -> str:
    """Return a short representation of a value for a message, with lone surrogates escaped."""
    if isinstance(value, str):
        value = value[: _MAX_VALUE_LENGTH + 1]
    text = repr(value) if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__
    text = {"list": "a list", "dict": "an object", "True": "true", "False": "false", "None": "null"}.get(text, text)
    text = text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]} ..."
    return text.encode("utf-8", "backslashreplace").decode()


def _refusal(kind: type[Fields], error: ValidationError) -> RefusedError:
    """Return a 400 for the first error; for an unknown field it suggests the most similar known one."""
    first = error.errors(include_url=False)[0]
    param = ""
    for part in first["loc"]:
        if part in (TEXT_TAG, PARTS_TAG):
            continue
        param += f"[{part}]" if isinstance(part, int) else f".{part}" if param else str(part)
    if first["type"] == UNKNOWN_FIELD:
        name = json.loads(first["ctx"]["name"])
        check_unicode("field name", name)
        param = f"{param}.{name}" if param else name
        param = param[:200]
        near = difflib.get_close_matches(param, kind.model_fields, 1)
        hint = f"Did you mean {near[0]}?" if near else "Leave it out."
        return bad_field(param, f"this field does not exist. {hint}", "unknown_field")
    if first["type"] == "missing":
        return bad_field(param, "the field is required. Add it.", "missing_field")
    if first["type"] == "string_unicode":
        return bad_field(param, "it is not valid Unicode. Correct it.")
    problem = re.sub(r"a valid dictionary or instance of \w+", "an object", first["msg"])
    problem = re.sub("^(Input|Value) should", "it must", problem).replace(" after validation", "")
    problem = problem[:1].lower() + problem[1:].replace(" should ", " must ")
    found = "" if ", not " in problem else f", but is {format_value(first['input'])}"
    return bad_field(param, f"{problem}{found}. Correct it.")
