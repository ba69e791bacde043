"""Changes of activations while a model runs: ablations, patches and steering."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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

    """

    at: str
    change: Change
    heads: tuple[int, ...] | None = None
    positions: tuple[int, ...] | None = None
    description: str = "replace"
    whole_text: bool = False

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
        part[..., places, :] = self.change(part[..., places, :], places + first)
        if value.ndim == 3:
            edited[heads] = part
        return edited

    def check(self, config: GPT2Config) -> list[str]:
        """Return the names of the activations that it changes.

        Raises RequestError for an unknown or read-only activation, and for heads that the model does not have.
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
        return names


def scale(at: str, factor: float, *, heads: Numbers = None, positions: Numbers = None) -> Edit:
    """Multiply an activation by a number."""
    return Edit(at, lambda value, _: value * np.float32(factor), _tuple(heads), _tuple(positions), "scale")


def zero(at: str, *, heads: Numbers = None, positions: Numbers = None) -> Edit:
    """Set an activation to zero."""
    return Edit(at, lambda value, _: np.zeros_like(value), _tuple(heads), _tuple(positions), "zero")


def ablate_head(layer: int, head: int) -> Edit:
    """Set the output of an attention head to zero."""
    return zero(name_in(layer, "attn.z"), heads=[head])


def scale_head(layer: int, head: int, factor: float) -> Edit:
    """Multiply the output of an attention head by a number."""
    return scale(name_in(layer, "attn.z"), factor, heads=[head])


def replace(at: str, value: np.ndarray, *, heads: Numbers = None, positions: Numbers = None) -> Edit:
    """Set an activation to a value that broadcasts to [positions, width], or [heads, positions, width] with heads."""
    return Edit(at, lambda old, _: np.broadcast_to(value, old.shape), _tuple(heads), _tuple(positions))


def mean_ablate(at: str, mean: np.ndarray | None = None, *, heads: Numbers = None) -> Edit:
    """Set an activation to its mean over the positions of the text, or to a `mean` of a dataset: [width].

    Without `mean`, it can be used to trace and score, but not to generate, where a text grows token by token.
    """
    if mean is not None:
        return replace(at, mean, heads=heads)

    def change(value: np.ndarray, _positions: np.ndarray) -> np.ndarray:
        return np.broadcast_to(value.mean(axis=-2, keepdims=True), value.shape)

    return Edit(at, change, _tuple(heads), None, "average", whole_text=True)


def patch(at: str, source: Mapping[str, np.ndarray], *, heads: Numbers = None, positions: Numbers = None) -> Edit:
    """Set an activation to that of another trace, `source`, at the same positions.

    Raises RequestError if the source does not have the activation or the positions.
    """
    value, chosen = source[canonical(at)], _tuple(heads)
    places = tuple(range(value.shape[-2])) if positions is None else tuple(positions)
    if wrong := [one for one in places if not 0 <= one < value.shape[-2]]:
        raise RequestError(f"Position {wrong[0]} is not in the source of the patch: it has {value.shape[-2]} tokens.")

    def change(old: np.ndarray, at_positions: np.ndarray) -> np.ndarray:
        del old
        part = value if chosen is None or value.ndim < 3 else value[list(chosen)]
        return part[..., at_positions, :]

    return Edit(at, change, chosen, places, "patch")


def steer(at: str, vector: np.ndarray, factor: float = 1.0, *, positions: Numbers = None) -> Edit:
    """Add a vector, [width], times a number to an activation."""
    addend = np.asarray(vector, dtype=np.float32) * np.float32(factor)
    return Edit(at, lambda value, _: value + addend, None, _tuple(positions), "steer")


def _tuple(values: Numbers) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)
