"""What loading a checkpoint will do to each of its tensors, decided before any of them is read."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from max_gpt2.checkpoint.formats import Source, StoredTensor
from max_gpt2.checkpoint.formats.source import EXACT
from max_gpt2.checkpoint.layout import LM_HEAD, WTE, canonical_shapes, is_conv1d, why_skipped
from max_gpt2.config import GPT2Config
from max_gpt2.errors import CheckpointError, listed

_REMEDY = "Nothing was loaded: correct config.json if it does not belong to these weights, or take another checkpoint."

Head = Literal["tied", "stored and equal to wte, so tied", "stored and not equal to wte, so kept"]


@dataclass(frozen=True)
class LoadPlan:
    """Where each canonical tensor comes from, and what happens on the way.

    `sources` has no `lm_head.weight` when the head is tied to `wte`. `skipped` maps stored names to the reason, and
    `zero_filled` the canonical names of tensors that the format leaves out. `origin` is what was read.
    """

    origin: Source
    sources: dict[str, StoredTensor]
    skipped: dict[str, str]
    head: Head
    zero_filled: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> GPT2Config:
        """The model's config."""
        return self.origin.config

    @property
    def format(self) -> str:
        """The name of the checkpoint's format."""
        return self.origin.format

    @property
    def tied(self) -> bool:
        """Whether the head's weights are those of `wte`."""
        return LM_HEAD not in self.sources

    def is_transposed(self, name: str) -> bool:
        """Say whether the tensor of this canonical name is stored [out, in], and so is turned into [in, out]."""
        return not self.origin.conv1d and is_conv1d(name)

    @property
    def transposed(self) -> list[str]:
        """The stored names of the tensors that are transposed."""
        return [stored.name for name, stored in self.sources.items() if self.is_transposed(name)]

    @property
    def upcast(self) -> list[str]:
        """The stored names of the tensors that are made float32, which holds each of their values exactly."""
        return [one.name for one in self.sources.values() if one.dtype != "F32" and not one.quantised]

    @property
    def dequantised(self) -> dict[str, str]:
        """The stored names of the quantised tensors, with what happens to them."""
        return {one.name: f"{one.dtype}, dequantised to float32" for one in self.sources.values() if one.quantised}

    @property
    def dtypes(self) -> list[str]:
        """The dtypes of the stored parameters."""
        return sorted({stored.dtype for stored in self.sources.values()})

    @property
    def read_dtypes(self) -> dict[str, str]:
        """What dtype each tensor is read in, by canonical name; a bias that is not there has its weight's."""
        read = {name: one.read_dtype for name, one in self.sources.items()}
        return read | {name: read[name.removesuffix("bias") + "weight"] for name in self.zero_filled}

    @property
    def parameters(self) -> int:
        """How many numbers the model has; a tied head counts once, and biases that are not there do not."""
        return sum(int(np.prod(stored.shape)) for stored in self.sources.values())


def make_plan(origin: Source) -> LoadPlan:
    """Assign every stored tensor to a place in the model; raises CheckpointError that lists all that do not fit."""
    config = origin.config
    # A layer has six tensors at least. Without this a config could ask for a list of a billion names.
    if config.n_layer > len(origin.tensors):
        raise _misfit(origin, [f"there are {len(origin.tensors)} tensors, too few for {config.n_layer} layers"])
    expected = canonical_shapes(config)
    sources: dict[str, StoredTensor] = {}
    skipped = dict(origin.skipped)
    problems: list[str] = []
    for tensor in origin.tensors:
        name = tensor.canonical
        if name in sources:
            problems.append(f"{tensor.name} and {sources[name].name} are both {name}")
        elif name in expected:
            sources[name] = tensor
            problems += _misfits(tensor, expected[name], is_conv1d(name), turned=not origin.conv1d)
            if origin.no_biases and name.endswith(".bias"):
                problems.append(f"{tensor.name} is there, and {origin.no_biases}")
        elif reason := why_skipped(name):
            skipped[tensor.name] = reason
        else:
            problems.append(f"{tensor.name} {list(tensor.shape)} is no part of a GPT-2 with {config.n_layer} layers")
    missing = [name for name in expected if name not in sources]
    zeros = {name: origin.no_biases for name in missing if origin.no_biases and name.endswith(".bias")}
    optional = {LM_HEAD, *zeros} if config.tie_word_embeddings else set(zeros)
    problems += [f"{name} {list(expected[name])} is missing" for name in missing if name not in optional]
    if problems:
        raise _misfit(origin, problems)
    return _with_head(origin, sources, skipped, zeros)


def _misfit(origin: Source, problems: list[str]) -> CheckpointError:
    remedy = _REMEDY if origin.conv1d else "Nothing was loaded: take another checkpoint."
    return CheckpointError(listed(f"The weights in {origin.path} do not fit its config", problems, remedy))


def _misfits(tensor: StoredTensor, canonical: tuple[int, ...], conv1d: bool, *, turned: bool) -> list[str]:
    problems = []
    shape = canonical[::-1] if conv1d and turned else canonical
    if tensor.shape != shape:
        hint = " (it looks transposed already)" if conv1d and not turned and tensor.shape == canonical[::-1] else ""
        problems.append(f"{tensor.name} is {list(tensor.shape)}, expected {list(shape)}{hint}")
    if tensor.dtype not in EXACT and not tensor.quantised:
        problems.append(f"{tensor.name} is {tensor.dtype}, which is not one of {', '.join(EXACT)}")
    return problems


def _with_head(
    origin: Source, sources: dict[str, StoredTensor], skipped: dict[str, str], zeros: dict[str, str]
) -> LoadPlan:
    if LM_HEAD not in sources:
        return LoadPlan(origin, sources, skipped, "tied", zeros)
    head = sources[LM_HEAD]
    if origin.config.tie_word_embeddings and _same_values(head.read(), sources[WTE].read()):
        rest = {name: tensor for name, tensor in sources.items() if name != LM_HEAD}
        skipped = skipped | {head.name: "equal to wte"}
        return LoadPlan(origin, rest, skipped, "stored and equal to wte, so tied", zeros)
    return LoadPlan(origin, sources, skipped, "stored and not equal to wte, so kept", zeros)


def _same_values(one: np.ndarray, other: np.ndarray, rows: int = 64) -> bool:
    """Return whether two arrays of one shape are equal, comparing strips of rows that fit into the cache."""
    return all(np.array_equal(one[at : at + rows], other[at : at + rows]) for at in range(0, len(one), rows))
