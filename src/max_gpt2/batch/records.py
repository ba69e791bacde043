"""Parse the fields of an input line: text or token ids, id, and generation options."""

import difflib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from max_gpt2.errors import RequestError
from max_gpt2.generation import Request, encode_prompt, read_bad_words
from max_gpt2.tokenizer import GPT2Tokenizer

Check = tuple[Callable[[object], bool], str]


def line_tokens(fields: Mapping[str, Any], text_field: str, tokenizer: GPT2Tokenizer) -> list[int]:
    """Return the token ids of a line's text, or its `prompt_ids`; raises RequestError unless it has exactly one."""
    source = line_source(fields, text_field)
    return encode_prompt(tokenizer, source) if isinstance(source, str) else source


def line_source(fields: Mapping[str, Any], text_field: str) -> str | list[int]:
    """Return a line's text, or its `prompt_ids`; raises RequestError unless it has exactly one."""
    if (text_field in fields) == ("prompt_ids" in fields):
        how = "both" if text_field in fields else "neither"
        raise RequestError(f'The line has {how} of "{text_field}" and "prompt_ids". Give exactly one of them.')
    return fields[text_field] if text_field in fields else list(fields["prompt_ids"])


def check_fields(fields: Mapping[str, Any], text_field: str, options: Mapping[str, Check]) -> None:
    """Raise RequestError that lists all unknown fields and all fields of the wrong type."""
    known = {**_COMMON, text_field: _STRING, **options}
    problems = []
    for name, value in fields.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f' (did you mean "{close[0]}"?)' if close else ""
            problems.append(f'unknown field "{name}"{hint}')
        elif not known[name][0](value):
            problems.append(f'"{name}" is not {known[name][1]}')
    if problems:
        raise RequestError(f"Invalid line: {'; '.join(problems)}. The fields are {', '.join(known)}.")


def line_request(fields: Mapping[str, Any], defaults: Request, tokenizer: GPT2Tokenizer, seed: int) -> Request:
    """Return the request of a line: its own options override those of the run and `seed`."""
    check_fields(fields, "prompt", OPTIONS)
    own = {name: fields[name] for name in OPTIONS if name in fields}
    if isinstance(own.get("stop"), str):
        own["stop"] = [own["stop"]]
    if "logit_bias" in own:
        own["logit_bias"] = {int(id_): bias for id_, bias in own["logit_bias"].items()}
    if "bad_words" in own:
        own["bad_words"] = read_bad_words(tokenizer, own["bad_words"])
    request = {name: own.pop(name) for name in _REQUEST if name in own}
    sampling = replace(defaults.sampling, **({"seed": seed} | own))
    return replace(defaults, prompt_tokens=line_tokens(fields, "prompt", tokenizer), sampling=sampling, **request)


def line_seed(seed: int, number: int) -> int:
    """Return the seed of a line, a hash of the run's seed and the line number."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:4], "big") >> 1


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**1000)  # float() can convert it


def _is_list_of(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _is_string(value: object) -> bool:
    return isinstance(value, str)


def _is_word(value: object) -> bool:
    return _is_string(value) or _is_list_of(_is_integer)(value)


def _is_bias(value: object) -> bool:
    return isinstance(value, dict) and all(
        id_.isascii() and id_.isdecimal() and len(id_) < 20 and _is_number(bias) for id_, bias in value.items()
    )


_STRING: Check = (_is_string, "a string")
_INTEGER: Check = (_is_integer, "an integer")
_NUMBER: Check = (_is_number, "a number")
_COMMON: dict[str, Check] = {
    "id": (lambda value: _is_string(value) or _is_integer(value), "a string or an integer"),
    "prompt_ids": (_is_list_of(_is_integer), "a list of ids"),
}
#: The options that are fields of a request, not of its sampling parameters.
_REQUEST = ("max_new_tokens", "stop", "stop_ids", "logprobs", "context_overflow")
#: The options of `max-gpt2 generate` that a line can override.
OPTIONS: dict[str, Check] = {
    "max_new_tokens": _INTEGER,
    "temperature": _NUMBER,
    "top_k": _INTEGER,
    "top_p": _NUMBER,
    "min_p": _NUMBER,
    "repetition_penalty": _NUMBER,
    "presence_penalty": _NUMBER,
    "frequency_penalty": _NUMBER,
    "no_repeat_ngram_size": _INTEGER,
    "min_new_tokens": _INTEGER,
    "stop": (lambda value: _is_string(value) or _is_list_of(_is_string)(value), "a string or a list of strings"),
    "stop_ids": (_is_list_of(_is_integer), "a list of ids"),
    "context_overflow": (_is_string, "a string"),
    "logit_bias": (_is_bias, "an object that maps token ids to numbers"),
    "bad_words": (_is_list_of(_is_word), "a list of strings and of lists of ids"),
    "logprobs": (lambda value: value is None or _is_integer(value), "an integer or null"),
    "seed": _INTEGER,
}
