"""The sizes of the checks: no two are equal, so that an axis can be told by its length, and no mistake hides."""

import re

import numpy as np

Arrays = dict[str, np.ndarray]

BATCH = 2
SEQ = 7
SIZES = {
    "n_layer": 3,
    "n_head": 4,
    "head_dim": 5,
    "n_positions": 19,
    "n_embd": 20,
    "vocab": 37,
    "n_inner": 44,
    "3 * n_embd": 60,
}
NUMBERS = SIZES | {"batch": BATCH, "seq": SEQ}
#: An epsilon that can be seen in the numbers.
EPSILON = 3e-2
#: The fields of the config that the checks use.
CONFIG = {
    "vocab_size": SIZES["vocab"],
    "n_positions": SIZES["n_positions"],
    "n_embd": SIZES["n_embd"],
    "n_layer": SIZES["n_layer"],
    "n_head": SIZES["n_head"],
    "n_inner": SIZES["n_inner"],
    "layer_norm_epsilon": EPSILON,
}

Dims = tuple[str, ...]


def lengths(dims: Dims) -> tuple[int, ...]:
    """Return the lengths of named axes: ("seq", "n_embd") -> (7, 20)."""
    return tuple(NUMBERS[name] for name in dims)


def named(shape: tuple[int, ...]) -> str:
    """Return a shape with the name of each length that has one: [batch=2, seq=7, 21]."""
    names = {length: name for name, length in NUMBERS.items()}
    cells = [f"{names[length]}={length}" if length in names else str(length) for length in shape]
    return f"[{', '.join(cells)}]"


def with_names(message: str) -> str:
    """Say in a message of MAX which size a number is: "60" -> "60 (3 * n_embd)". Small numbers may be anything."""
    names = {length: name for name, length in SIZES.items() if length > 9}
    return re.sub(
        r"(?<![\w.])(\d+)(?![\w.])",
        lambda found: f"{found[0]} ({names[int(found[0])]})" if int(found[0]) in names else found[0],
        message,
    )


def numbers(seed: int, dims: Dims, scale: float = 1.0, middle: float = 0.0) -> np.ndarray:
    """Return random float32 numbers: `dims` around `middle`; the same seed gives the same."""
    drawn = np.random.default_rng(seed).standard_normal(lengths(dims)) * scale + middle
    return drawn.astype(np.float32)


def token_ids() -> np.ndarray:
    """Return two rows of ids, none of which comes twice in a row: [batch, seq] of int64."""
    return np.stack([np.random.default_rng(row).permutation(SIZES["vocab"])[:SEQ] for row in range(BATCH)])
