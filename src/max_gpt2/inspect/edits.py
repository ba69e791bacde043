"""Changes of activations while a model runs: ablations, patches and steering."""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.inspect.probes import READ_ONLY, canonical, name_in, resolve, shape, split_name

#: Takes the values at the positions of an edit, [..., positions, width], and the positions; returns the new values.
Change = Callable[[np.ndarray, np.ndarray], np.ndarray]
#: Heads or positions, or None for all.
Numbers = Sequence[int] | None


@dataclass(frozen=True)
class Edit:
    """A change of one activation, or of all that a pattern matches.

    Attributes:
        at: The name of the activation, or a pattern.
        change: The function that returns the new values.
        heads: The heads to change, of an activation with heads; None for all.
        positions: The positions in the text to change, from 0; None for all.
        description: The verb for what the edit does, for messages.
        whole_text: The edit needs all positions at once, so it cannot be used to generate.
        tokens: The number of tokens that a traced text must have; None for any.
        value: The values that are written or added, to check their shape; None for those of a function.
        source: The trace that they are from; see `patch`.

    """

    at: str
    change: Change
    heads: Numbers = None
    positions: Numbers = None
    description: str = "replace"
    whole_text: bool = False
    tokens: int | None = None
    value: np.ndarray | None = field(default=None, repr=False, compare=False)
    source: Mapping[str, np.ndarray] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raise RequestError for heads and positions that are not lists of integers, and for a negative position."""
        object.__setattr__(self, "heads", _integers("heads", self.heads))
        object.__setattr__(self, "positions", _integers("positions", self.positions))
        if wrong := [one for one in self.positions or () if one < 0]:
            raise RequestError(f"Position {wrong[0]} is negative: positions count from 0, the first token of the text.")

    def apply(self, value: np.ndarray, first: int) -> np.ndarray:
        """Return an activation with the edit: a value of one text from position `first` on, [..., tokens, width]."""
        tokens = value.shape[-2]
        places = np.arange(tokens) if self.positions is None else np.array(self.positions, dtype=int) - first
        places = places[(places >= 0) & (places < tokens)]
        if not places.size:
            return value
        edited = value.copy()
        heads = slice(None) if self.heads is None else list(self.heads)
        part = edited[heads] if value.ndim == 3 else edited
        try:
            part[..., places, :] = _real(self.change(part[..., places, :], places + first))
        except TypeError as error:
            raise ValueError("the new value is not an array of real numbers") from error
        if value.ndim == 3:
            edited[heads] = part
        return edited

    def check(self, config: GPT2Config) -> list[str]:
        """Return the names of the activations that it changes.

        Raises RequestError for an unknown or read-only activation, for heads and positions that the model does not
        have, and for values with the shape of another model.
        """
        names = resolve([self.at], config)
        for name in names:
            _, part = split_name(name)
            if part in READ_ONLY:
                raise RequestError(f"{name} cannot be edited: it is computed from others. Edit {READ_ONLY[part]}.")
            if self.heads is not None and len(shape(name, config, 1)) < 3:
                raise RequestError(f"{name} has no heads. Edit attn.z, attn.q, attn.k, attn.v or attn.pattern.")
        if wrong := [head for head in self.heads or () if not 0 <= head < config.n_head]:
            raise RequestError(f"Head {wrong[0]} does not exist: the model has the heads 0 to {config.n_head - 1}.")
        if wrong := [one for one in self.positions or () if one >= config.n_positions]:
            raise RequestError(f"Position {wrong[0]} is not in the context of {config.n_positions} tokens.")
        for name in names:
            self._check_value(name, config)
        return names

    def check_texts(self, lengths: Iterable[int]) -> None:
        """Raise RequestError if the edit does not fit to texts with these numbers of tokens.

        One of them must have all positions that the edit names.
        """
        longest = max(lengths := list(lengths))
        if self.tokens is not None and (others := [one for one in lengths if one != self.tokens]):
            raise RequestError(
                f"The source of the patch of {self.at} has {self.tokens} tokens, but the text has {others[0]}. "
                "Choose positions=[...]."
            )
        if self.positions and max(self.positions) >= longest:
            text = "the text" if len(lengths) == 1 else "the longest text"
            raise RequestError(
                f"The edit of {self.at} changes position {max(self.positions)}, but {text} has {longest} tokens."
            )

    def _check_value(self, name: str, config: GPT2Config) -> None:
        if self.value is None:
            return
        found = self.value.shape
        if self.description == "patch":
            expected = shape(name, config, found[-2] if len(found) > 1 else 0)
        else:
            expected = shape(name, config, 1)
            # The last axis of a pattern is as long as the text.
            if split_name(name)[1] == "attn.pattern" or found[-1:] in ((), (1,), expected[-1:]):
                return
        if found != expected:
            raise RequestError(
                f"The value for {name} has the shape {list(found)}, but this model has "
                f"{' x '.join(map(str, (*expected[:-2], expected[-1])))} values per token."
            )


def scale(at: str, factor: float, *, heads: Numbers = None, positions: Numbers = None) -> Edit:
    """Multiply an activation by a number."""
    number = _finite(factor, f"The factor for {at}")
    return Edit(at, lambda value, _: value * number, heads, positions, "scale")


def zero(at: str, *, heads: Numbers = None, positions: Numbers = None) -> Edit:
    """Set an activation to zero."""
    return Edit(at, lambda value, _: np.zeros_like(value), heads, positions, "zero")


def ablate_head(layer: int, head: int) -> Edit:
    """Set the output of an attention head to zero."""
    return zero(name_in(layer, "attn.z"), heads=[head])


def scale_head(layer: int, head: int, factor: float) -> Edit:
    """Multiply the output of an attention head by a number."""
    return scale(name_in(layer, "attn.z"), factor, heads=[head])


def replace(at: str, value: np.ndarray, *, heads: Numbers = None, positions: Numbers = None) -> Edit:
    """Set an activation to a value that broadcasts to [positions, width], or [heads, positions, width] with heads."""
    new = _finite(value, f"The value for {at}")
    return Edit(at, lambda old, _: np.broadcast_to(new, old.shape), heads, positions, value=new)


def mean_ablate(at: str, mean: np.ndarray | None = None, *, heads: Numbers = None) -> Edit:
    """Set an activation to its mean over the positions of the text, or to a `mean` of a dataset: [width].

    Without `mean`, it can be used to trace and score, but not to generate, where a text grows token by token.
    """
    if mean is not None:
        return replace(at, mean, heads=heads)

    def change(value: np.ndarray, _positions: np.ndarray) -> np.ndarray:
        return np.broadcast_to(value.mean(axis=-2, keepdims=True), value.shape)

    return Edit(at, change, heads, None, "average", whole_text=True)


def patch(at: str, source: Mapping[str, np.ndarray], *, heads: Numbers = None, positions: Numbers = None) -> Edit:
    """Set an activation to that of another trace, `source`, at the same positions.

    Without `positions`, a text that is traced must have as many tokens as the source. A trace must be of the same
    model; `dict(trace)` as the source allows another one with the same sizes. Raises RequestError if the source does
    not have the activation or the positions.
    """
    try:
        value = _finite(source[canonical(at)], f"The source of the patch of {at}")
    except KeyError as error:
        raise RequestError(f'"{at}" is not in the source of the patch. Trace it: at=["{at}"].') from error
    if value.ndim < 2:
        raise RequestError(f"The source of the patch of {at} has the shape {list(value.shape)}, without positions.")
    chosen = _integers("heads", heads)
    places = _integers("positions", range(value.shape[-2]) if positions is None else positions) or ()
    if wrong := [one for one in places if not 0 <= one < value.shape[-2]]:
        raise RequestError(f"Position {wrong[0]} is not in the source of the patch: it has {value.shape[-2]} tokens.")

    def change(old: np.ndarray, at_positions: np.ndarray) -> np.ndarray:
        del old
        part = value if chosen is None or value.ndim < 3 else value[list(chosen)]
        return part[..., at_positions, :]

    tokens = value.shape[-2] if positions is None else None
    return Edit(at, change, chosen, places, "patch", tokens=tokens, value=value, source=source)


def steer(at: str, vector: np.ndarray, factor: float = 1.0, *, positions: Numbers = None) -> Edit:
    """Add a vector, [width], times a number to an activation."""
    with np.errstate(over="ignore"):
        product = _finite(vector, f"The vector for {at}") * _finite(factor, f"The factor for {at}")
    addend = _finite(product, f"The vector for {at} times the factor")
    return Edit(at, lambda value, _: value + addend, None, positions, "steer", value=addend)


def _integers(name: str, values: Iterable[int] | None) -> tuple[int, ...] | None:
    """Return heads or positions as a tuple; raises RequestError unless they are integers."""
    try:
        return None if values is None else tuple(operator.index(one) for one in values)
    except TypeError as error:
        raise RequestError(f"{name}={values!r} is not a list of integers.") from error


def _finite(value: object, what: str) -> np.ndarray:
    """Return an array of float32; raises RequestError, about `what`, unless its values are finite real numbers."""
    try:
        found = _real(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RequestError(f"{what} is not an array of real numbers.") from error
    if not np.isfinite(found).all():
        raise RequestError(f"{what} has NaN or infinite values.")
    return found


def _real(value: object) -> np.ndarray:
    """Return an array of float32; raises TypeError for values that are not real numbers."""
    found = np.asarray(value)
    if found.dtype.kind not in "fiub":
        raise TypeError(f"{found.dtype} is not a type of real numbers")
    with np.errstate(over="ignore"):
        return found.astype(np.float32)
