"""Plan the load of a checkpoint: decide for each stored tensor what happens to it, before any values are read."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from max_gpt2.checkpoint.formats import Source, StoredTensor
from max_gpt2.checkpoint.formats.source import EXACT
from max_gpt2.checkpoint.layout import LM_HEAD, WTE, canonical_shapes, is_conv1d, quantisation, why_skipped
from max_gpt2.checkpoint.options import Adapter
from max_gpt2.checkpoint.weight_types import choose_types, is_exact, type_bytes
from max_gpt2.config import GPT2Config
from max_gpt2.errors import CheckpointError, listed
from max_gpt2.weights.types import DEFAULT_WEIGHTS, TYPES, WeightsOption

_REMEDY = "Nothing was loaded: correct config.json if it does not belong to these weights, or use another checkpoint."

Head = Literal[
    "tied", "stored and equal to wte, so tied", "stored and not equal to wte, so kept", "changed by an adapter, so kept"
]


@dataclass(frozen=True)
class LoadPlan:
    """The source and the conversion of every canonical tensor.

    Attributes:
        origin: The checkpoint as its format reader found it.
        sources: The stored tensor for each canonical name; without `lm_head.weight` when the head is tied to `wte`.
        skipped: Names of stored tensors that are not loaded, with the reason.
        head: How the output head is stored and used.
        zero_filled: Canonical names of biases that the format omits, with the reason.
        adapters: The adapters that are merged into the weights.
        merged: Canonical names of the tensors that the adapters change.
        weights: The requested types of the weights in memory.

    """

    origin: Source
    sources: dict[str, StoredTensor]
    skipped: dict[str, str]
    head: Head
    zero_filled: dict[str, str] = field(default_factory=dict)
    adapters: tuple[Adapter, ...] = ()
    merged: list[str] = field(default_factory=list)
    weights: WeightsOption = DEFAULT_WEIGHTS

    @cached_property
    def types(self) -> dict[str, str]:
        """The type in memory of each tensor in `sources`; raises RequestError if one cannot be made."""
        return choose_types(self.config, self.sources, self.weights, self.origin.path)

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
        """True if the head shares the weights of `wte`."""
        return LM_HEAD not in self.sources

    def is_transposed(self, name: str) -> bool:
        """Return True if this tensor is stored as [out, in] and is transposed to [in, out]."""
        return not self.origin.conv1d and is_conv1d(name)

    @property
    def transposed(self) -> list[str]:
        """The stored names of the tensors that are transposed."""
        return [stored.name for name, stored in self.sources.items() if self.is_transposed(name)]

    @property
    def upcast(self) -> list[str]:
        """The stored names of the tensors that are converted to float32, which is exact."""
        halves = {name: one for name, one in self.sources.items() if one.dtype != "F32" and not one.quantised}
        return [one.name for name, one in halves.items() if self.types[name] == "F32"]

    @property
    def dequantised(self) -> dict[str, str]:
        """The stored names of the quantised tensors that become float32, with their conversion."""
        quantised = {name: one for name, one in self.sources.items() if one.quantised and self.types[name] == "F32"}
        return {one.name: f"{one.dtype}, dequantised to float32" for one in quantised.values()}

    @property
    def rounded(self) -> dict[str, str]:
        """The stored names of the tensors whose values change, with their conversion."""
        types = self.types
        return {
            one.name: f"{one.dtype}, rounded to {types[name]}"
            for name, one in self.sources.items()
            if not is_exact(one.dtype, types[name])
        }

    @property
    def type_changes(self) -> list[str]:
        """The changes of types worth knowing: those that round values, and those for want of a kernel."""
        pairs = dict.fromkeys((one.dtype, self.types[name]) for name, one in self.sources.items())
        changes = [f"{old} rounded to {new}" for old, new in pairs if not is_exact(old, new)]
        return changes + [f"{old} dequantised to float32" for old, new in pairs if old not in TYPES and new == "F32"]

    @property
    def dtypes(self) -> list[str]:
        """The dtypes of the stored parameters."""
        return sorted({stored.dtype for stored in self.sources.values()})

    @property
    def stored_bytes(self) -> int:
        """The bytes of the parameters in the files."""
        return sum(one.nbytes for one in self.sources.values())

    @property
    def memory_bytes(self) -> int:
        """The bytes of the weights in memory, mapped ones included."""
        return sum(self._sizes.values())

    @property
    def copied_bytes(self) -> int:
        """The bytes of the weights that are not mapped, because their type or layout changes."""
        return sum(size for name, size in self._sizes.items() if self._is_changed(name))

    def _is_changed(self, name: str) -> bool:
        stored = self.sources[name]
        packed = stored.quantised and is_conv1d(name)
        return stored.dtype != self.types[name] or packed or self.is_transposed(name)

    @property
    def _sizes(self) -> dict[str, int]:
        shapes, types = canonical_shapes(self.config), self.types
        return {name: type_bytes(name, types[name], shapes[name]) for name in self.sources}

    @property
    def read_dtypes(self) -> dict[str, str]:
        """The dtype in which each tensor is read, by canonical name; an omitted bias has the dtype of its weight."""
        read = {name: one.read_dtype for name, one in self.sources.items()}
        return read | {name: read[name.removesuffix("bias") + "weight"] for name in self.zero_filled}

    @property
    def parameters(self) -> int:
        """The number of parameters; a tied head counts once, omitted biases do not count."""
        return sum(int(np.prod(stored.shape)) for stored in self.sources.values())


def make_plan(origin: Source) -> LoadPlan:
    """Assign every stored tensor to a tensor of the model; raises CheckpointError that lists every mismatch."""
    config = origin.config
    # A layer has at least six tensors. Without this check, a config could request a list of a billion names.
    if config.n_layer > len(origin.tensors):
        raise _mismatch_error(origin, [f"there are {len(origin.tensors)} tensors, too few for {config.n_layer} layers"])
    if methods := {method: one.name for one in origin.tensors if (method := quantisation(one.name))}:
        found = " and ".join(f"{method} ({name})" for method, name in methods.items())
        raise CheckpointError(
            f"{origin.path} is quantized with {found}, which is not exact. Use the original checkpoint."
        )
    expected = canonical_shapes(config)
    sources: dict[str, StoredTensor] = {}
    skipped = dict(origin.skipped)
    problems: list[str] = []
    for tensor in origin.tensors:
        name = tensor.canonical
        if name in sources:
            problems.append(f"{tensor.name} and {sources[name].name} both map to {name}")
        elif name in expected:
            sources[name] = tensor
            problems += _mismatches(tensor, expected[name], is_conv1d(name), transposed=not origin.conv1d)
            if origin.no_biases and name.endswith(".bias"):
                problems.append(f"{tensor.name} is present, but {origin.no_biases}")
        elif reason := why_skipped(name):
            skipped[tensor.name] = reason
        else:
            problems.append(
                f"{tensor.name} {list(tensor.shape)} does not belong to a GPT-2 with {config.n_layer} layers"
            )
    missing = [name for name in expected if name not in sources]
    zeros = {name: origin.no_biases for name in missing if origin.no_biases and name.endswith(".bias")}
    optional = {LM_HEAD, *zeros} if config.tie_word_embeddings else set(zeros)
    problems += [f"{name} {list(expected[name])} is missing" for name in missing if name not in optional]
    if problems:
        raise _mismatch_error(origin, problems)
    return _with_head(origin, sources, skipped, zeros)


def _mismatch_error(origin: Source, problems: list[str]) -> CheckpointError:
    remedy = _REMEDY if origin.conv1d else "Nothing was loaded: use another checkpoint."
    return CheckpointError(listed(f"The weights in {origin.path} do not fit its config", problems, remedy))


def _mismatches(tensor: StoredTensor, canonical: tuple[int, ...], conv1d: bool, *, transposed: bool) -> list[str]:
    problems = []
    shape = canonical[::-1] if conv1d and transposed else canonical
    if tensor.shape != shape:
        hint = " (it looks transposed already)" if conv1d and not transposed and tensor.shape == canonical[::-1] else ""
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
    """Return True if two arrays of the same shape are equal; compare strips of rows that fit in the CPU cache."""
    return all(np.array_equal(one[at : at + rows], other[at : at + rows]) for at in range(0, len(one), rows))
