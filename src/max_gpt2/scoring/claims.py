"""Read claims: published numbers of a checkpoint, as data.

The package ships two files of them, `golden_published.json` and `golden_demo.json`; `docs/golden.md` describes the
format.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from max_gpt2.checkpoint.locate import MOVED
from max_gpt2.errors import RequestError
from max_gpt2.scoring.options import Base

Kind = Literal["token_ids", "greedy", "argmax", "mean_loss", "surprisals", "surprisal_sum", "data"]

_TITLES: Mapping[Kind, str] = {
    "token_ids": "ids",
    "greedy": "greedy continuation",
    "argmax": "most likely next id and its logit",
    "mean_loss": "mean loss",
    "surprisals": "surprisals",
    "surprisal_sum": "sum of surprisals",
}
#: The files of claims that the package ships.
PUBLISHED, DEMO_CLAIMS = (Path(__file__).with_name(f"golden_{name}.json") for name in ("published", "demo"))


@dataclass(frozen=True)
class Claim:
    """A number or a text that somebody published for a checkpoint, and how to compute it.

    Attributes:
        models: The names of the checkpoints that it belongs to.
        kind: token_ids: the ids of `text`. greedy: the greedy continuation, a text or ids. argmax: the most likely next
            id and its logit. mean_loss: the mean surprisal of the tokens. surprisals: those of all tokens that have
            one. surprisal_sum: their sum. data: a result on a data set, which is not computed.
        expected: The published value.
        source: Who published it, in words.
        text: The input.
        ids: The input as token ids, instead of `text`.
        tolerance: The largest absolute difference of a number.
        max_new_tokens: The length of a greedy continuation.
        bos: Whether the text follows a BOS token.
        base: The base of the logarithm.
        word_boundary_correction: Whether the probability of the space is moved to the word before it.
        note: For data, what the number is and how to compute it.

    """

    models: tuple[str, ...]
    kind: Kind
    expected: Any
    source: str
    text: str | None = None
    ids: tuple[int, ...] | None = None
    tolerance: float = 0.0
    max_new_tokens: int = 0
    bos: bool = False
    base: Base = "e"
    word_boundary_correction: bool = False
    note: str = ""

    @property
    def input(self) -> str | list[int]:
        """The text or the ids."""
        return list(self.ids) if self.ids is not None else self.text or ""

    def describe(self) -> str:
        """Return the claim without its value, such as 'surprisals of "The dog", BOS, base 2'."""
        if self.kind == "data":
            return self.note
        shown = json.dumps(self.input, ensure_ascii=False)
        options = [
            "BOS" if self.bos else "",
            f"base {self.base}" if self.base != "e" else "",
            "word boundary correction" if self.word_boundary_correction else "",
        ]
        return ", ".join([f"{_TITLES[self.kind]} of {shown}", *filter(None, options)])


def claims_of(model: str | Path, name: str | None = None) -> list[Claim]:
    """Return the claims of a checkpoint: those of its hub id, or of "demo".

    `name` replaces the hub id, for a local checkpoint: a name in the shipped files, or a path of a file of claims.
    Raises RequestError for a local checkpoint without a name, a name without claims, or an invalid file.
    """
    if name is not None and name.endswith(".json"):
        return read_claims(Path(name))
    shipped = [*read_claims(PUBLISHED), *read_claims(DEMO_CLAIMS)]
    names = list(dict.fromkeys(one for claim in shipped for one in claim.models))
    known = f"Known names: {', '.join(names)}."
    if name is None:
        if model != "demo" and Path(model).expanduser().exists():
            raise RequestError(
                f"{model} is a local checkpoint, so it has no hub id that claims could belong to. Name the checkpoint "
                f"that it is a copy of with --claims NAME. {known}"
            )
        name = str(model)
    short = {repo: alias for alias, repo in MOVED.items()}.get(name, name)
    if not (found := [claim for claim in shipped if short in claim.models]):
        raise RequestError(f'No claims are known for "{name}". {known} Or give a file of claims: --claims FILE.json.')
    return found


def read_claims(path: Path) -> list[Claim]:
    """Read a file of claims; raises RequestError with the number of the first claim that is invalid."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not a readable file of claims ({error}). Correct it.") from error
    entries = content.get("claims") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise RequestError(f'{path} is not a file of claims: it has no list "claims". See docs/golden.md.')
    claims = []
    for number, entry in enumerate(entries, 1):
        if problem := _problem(entry):
            raise RequestError(f"{path}, claim {number}: {problem}. See docs/golden.md.")
        values: dict[str, Any] = {"models": (), **entry}
        values |= {key: tuple(values[key]) for key in ("models", "ids") if key in values}
        claims.append(Claim(**values))
    return claims


def _problem(entry: Any) -> str:
    """Return what is wrong with an entry of a file of claims, or an empty string."""
    if not isinstance(entry, dict):
        return "it is not an object"
    names = {field.name for field in fields(Claim)}
    if unknown := entry.keys() - names:
        return f'unknown field "{min(unknown)}"'
    if missing := [name for name in ("kind", "expected", "source") if name not in entry]:
        return f'no field "{missing[0]}"'
    if entry["kind"] not in get_args(Kind):
        return f"kind {entry['kind']!r} is not one of {', '.join(get_args(Kind))}"
    for name, (fits, expected) in _TYPES.items():
        if name in entry and not fits(entry[name]):
            return f"{name} is not {expected}"
    if entry["kind"] != "data" and ("text" in entry) == ("ids" in entry):
        return 'it needs either "text" or "ids"'
    try:
        json.dumps(entry, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "it has text that is not valid Unicode"
    fits, expected = _EXPECTED[entry["kind"]]
    return "" if fits(entry["expected"]) else f"expected is not {expected}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300  # not NaN


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_list(value: Any, fits: Any, minimum: int = 1) -> bool:
    return isinstance(value, list) and len(value) >= minimum and all(map(fits, value))


_TYPES: Mapping[str, tuple[Any, str]] = {
    "models": (lambda value: _is_list(value, lambda one: isinstance(one, str)), "a list of names"),
    "ids": (lambda value: _is_list(value, _is_count), "a list of token ids"),
    "tolerance": (lambda value: _is_number(value) and value >= 0, "a number >= 0"),
    "max_new_tokens": (_is_count, "a count"),
    "base": (lambda value: value in get_args(Base), f"one of {', '.join(get_args(Base))}"),
    **dict.fromkeys(("source", "text", "note"), (lambda value: isinstance(value, str), "a string")),
    **dict.fromkeys(("bos", "word_boundary_correction"), (lambda value: isinstance(value, bool), "true or false")),
}
_NUMBER = (_is_number, "a number")
_IDS = (lambda value: _is_list(value, _is_count, 0), "a list of token ids")
_EXPECTED: Mapping[str, tuple[Any, str]] = {
    "token_ids": _IDS,
    "greedy": (lambda value: isinstance(value, str) or _IDS[0](value), "a text or a list of token ids"),
    "argmax": (
        lambda value: _is_list(value, _is_number, 2) and len(value) == 2 and _is_count(value[0]),
        "an id and its logit",
    ),
    "mean_loss": _NUMBER,
    "surprisals": (lambda value: _is_list(value, _is_number), "a list of numbers"),
    "surprisal_sum": _NUMBER,
    "data": (lambda _: True, ""),
}
