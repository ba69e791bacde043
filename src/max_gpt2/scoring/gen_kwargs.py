"""The options with which a task of lm-evaluation-harness generates text (`generation_kwargs`)."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from max_gpt2.errors import RequestError
from max_gpt2.generation import SamplingParams

#: The harness's default of max_gen_toks.
MAX_GEN_TOKS = 256
#: transformers' default of top_k when it samples; its `generate` applies it for the harness's model `hf` too.
TOP_K = 50
#: The names of the number of tokens to generate, in the harness's order of precedence.
_MAX_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_SAMPLING: dict[str, Callable[[Any], float]] = {
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repetition_penalty": float,
    "no_repeat_ngram_size": int,
}
#: Options that only sampling has; without it they have no effect.
_SAMPLED_ONLY = ("temperature", "top_k", "top_p", "min_p")
_KNOWN = ("until", "do_sample", "num_beams", *_MAX_TOKENS, *_SAMPLING)


@dataclass(frozen=True)
class GenKwargs:
    """How to generate one text: it ends before the first of the strings `until`, or after `max_gen_toks` tokens."""

    until: list[str]
    max_gen_toks: int
    sampling: SamplingParams


def read_gen_kwargs(gen_kwargs: Mapping[str, Any], seed: int, origin: str) -> GenKwargs:
    """Return the options of a request with the meaning that the harness's `hf` model gives them.

    Text is greedy unless `do_sample` is true, or absent and `temperature` above 0. `origin` names the request in a
    message. Raises RequestError for unknown options and invalid values.
    """
    if unknown := [name for name in gen_kwargs if name not in _KNOWN]:
        close = difflib.get_close_matches(unknown[0], _KNOWN, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise RequestError(
            f"{origin} has generation_kwargs that max-gpt2 does not support: {', '.join(unknown)}{hint}. "
            f"It supports {', '.join(_KNOWN)}."
        )
    given = {name: value for name, value in gen_kwargs.items() if value is not None}
    counts = [_convert(int, name, given[name], origin) for name in _MAX_TOKENS if name in given]
    max_gen_toks = counts[0] if counts else MAX_GEN_TOKS
    if max_gen_toks < 1:
        raise RequestError(f"{origin} generates {max_gen_toks} tokens (max_gen_toks). Set 1 or more.")
    if (beams := given.get("num_beams", 1)) != 1:
        raise RequestError(f"{origin} asks for beam search (num_beams {beams}), which is not supported. Set 1.")
    return GenKwargs(_until(given.get("until", []), origin), max_gen_toks, _sampling(given, seed, origin))


def _sampling(given: Mapping[str, Any], seed: int, origin: str) -> SamplingParams:
    values: dict[str, Any] = {
        name: _convert(kind, name, given[name], origin) for name, kind in _SAMPLING.items() if name in given
    }
    temperature = values.pop("temperature", 0.0)
    do_sample = given.get("do_sample", temperature > 0)
    if not isinstance(do_sample, bool):
        raise RequestError(f"{origin} has the value {do_sample!r} of do_sample, which is neither true nor false.")
    if do_sample and temperature == 0:
        raise RequestError(f"{origin} has do_sample without a temperature. Set one above 0, or do_sample to false.")
    if not do_sample:
        values = {name: value for name, value in values.items() if name not in _SAMPLED_ONLY}
        return SamplingParams(temperature=0, seed=seed, **values)
    return SamplingParams(**{"top_k": TOP_K, "temperature": temperature, "seed": seed} | values)


def _until(value: Any, origin: str) -> list[str]:
    strings = [value] if isinstance(value, str) else value
    if not isinstance(strings, list) or not all(isinstance(one, str) for one in strings):
        raise RequestError(f"{origin} has the value {value!r} of until, which is not a list of strings.")
    return strings


def _convert(kind: Callable[[Any], float], name: str, value: Any, origin: str) -> Any:
    try:
        return kind(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestError(f"{origin} has the value {value!r} of {name}, which is not a number. Correct it.") from error
