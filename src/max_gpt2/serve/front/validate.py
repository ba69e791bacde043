"""From a JSON object to fields that are known, present and of the right type; else a 400 that names the field."""

import difflib
from typing import Any, TypeVar

from pydantic import ValidationError

from max_gpt2.serve.front.errors import RefusedError, bad_field, unfit
from max_gpt2.serve.front.fields import MOST_STOPS, NOT_HERE, PARTS_TAG, TEXT_TAG, Common, Fields
from max_gpt2.serve.front.served import Served

Kind = TypeVar("Kind", bound=Fields)
_LONGEST_VALUE = 60


def check_fields(kind: type[Kind], given: dict[str, Any]) -> Kind:
    """Return the fields of one kind of request; raises RefusedError."""
    known = dict(given)
    for name in given:
        check_unicode("the name of a field", name)
    for name, problem in NOT_HERE.items():
        if name not in kind.model_fields and name in known:
            value = known.pop(name)
            if value is not None and not (name == "response_format" and value == {"type": "text"}):
                raise bad_field(name, problem, "unsupported_field")
    try:
        return kind.model_validate(known)
    except ValidationError as error:
        raise _refusal(kind, error) from None


def check_model(name: str, served: Served) -> None:
    """Raise a 404 for a model that is not served."""
    if name != served.name:
        message = f"The model {shown(name)} is not served here. Use {served.name!r}, or ask /v1/models."
        raise RefusedError(404, message, "model", "model_not_found")


def check_stream(fields: Common) -> None:
    """Raise a 400 for stream_options without a stream."""
    if fields.stream_options is not None and not fields.stream:
        raise unfit("stream_options", "it goes with stream only. Add stream: true, or leave it out.")


def check_stops(value: object) -> list[str]:
    """Return the stop strings."""
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list):
        raise bad_field("stop", f"{shown(value)} is neither a string nor a list of strings. Correct it.")
    if len(stops) > MOST_STOPS:
        raise bad_field("stop", f"there are {len(stops)} strings, and at most {MOST_STOPS} are possible. Send fewer.")
    for place, one in enumerate(stops):
        param = "stop" if isinstance(value, str) else f"stop[{place}]"
        if not isinstance(one, str):
            raise bad_field(param, f"{shown(one)} is not a string. Correct it.")
        if not one:
            raise bad_field(param, "the string is empty, and every text would end before it. Leave it out.")
        check_unicode(param, one)
    return stops


def check_bias(value: object, served: Served) -> dict[str, float]:
    """Return what is added to which ids' logits; the ids are those that the tokenizer can write."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_field("logit_bias", f"{shown(value)} is not an object of ids and numbers. Correct it.")
    found: dict[str, float] = {}
    for name, bias in value.items():
        known = name.isascii() and name.isdecimal() and int(name[:20]) < served.tokenizer.size
        if not known:
            problem = f"{shown(name)} is not an id in 0 .. {served.tokenizer.size - 1}. Correct it."
            raise bad_field("logit_bias", problem, "id_out_of_range")
        if not isinstance(bias, (int, float)) or isinstance(bias, bool) or not -100 <= bias <= 100:
            raise bad_field("logit_bias", f"{shown(bias)} for the id {int(name)} is not in -100 .. 100. Correct it.")
        found[str(int(name))] = float(bias)
    return found


def check_unicode(param: str, text: str) -> None:
    """Raise a 400 for a text with a lone surrogate, which is no Unicode and has no bytes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise bad_field(param, f"it is not valid Unicode at position {error.start}. Correct it.") from None


def shown(value: object) -> str:
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
    return bad_field(param, f"{problem[:1].lower()}{problem[1:]}, and is {shown(first['input'])}. Correct it.")
