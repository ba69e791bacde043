"""Merge LoRA adapters into the weights of a checkpoint, in float32."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from max_gpt2.checkpoint.formats.peft import AdapterFile, LowRank, read_adapter
from max_gpt2.checkpoint.formats.source import StoredTensor
from max_gpt2.checkpoint.layout import canonical_name, canonical_shapes, why_skipped
from max_gpt2.checkpoint.options import Adapter
from max_gpt2.checkpoint.plan import LoadPlan
from max_gpt2.errors import CheckpointError, listed
from max_gpt2.weights import LM_HEAD, WTE

_ROWS = 256
_REMEDY = "Use the base model that the adapter was trained on."


@dataclass
class Change:
    """The changes of one tensor: a replacement, and what is added to it."""

    replacement: StoredTensor | None = None
    low_rank: list[tuple[LowRank, float]] = field(default_factory=list)
    biases: list[tuple[StoredTensor, float]] = field(default_factory=list)


def merge_adapters(plan: LoadPlan, adapters: Sequence[Adapter], allow_pickle: bool = False) -> LoadPlan:
    """Return a plan whose tensors are read with the adapters merged; the values are computed when they are read.

    The order of the adapters does not matter. A tied head stays what the base model has when an adapter changes only
    the embeddings, and the other way round, as in PEFT. Raises CheckpointError that lists every problem.
    """
    changes: dict[str, Change] = {}
    skipped: dict[str, str] = {}
    problems: list[str] = []
    for adapter in adapters:
        problems += _collect(plan, read_adapter(adapter.path, allow_pickle), adapter.scale, changes, skipped)
    if problems:
        folders = ", ".join(str(adapter.path) for adapter in adapters)
        raise CheckpointError(listed(f"The adapter {folders} does not fit {plan.origin.path}", problems, _REMEDY))
    return _with_changes(plan, changes, skipped, tuple(adapters))


def _collect(
    plan: LoadPlan, file: AdapterFile, scale: float, changes: dict[str, Change], skipped: dict[str, str]
) -> list[str]:
    """Add the changes of one adapter by canonical name; return the problems."""
    shapes, problems = canonical_shapes(plan.config), []
    for name, tensor in file.replaced.items():
        canonical = canonical_name(name)
        if reason := why_skipped(canonical):
            skipped[tensor.name] = reason
            continue
        change = changes.setdefault(canonical, Change())
        if change.replacement:
            problems.append(f"{tensor.name} and {change.replacement.name}, of another adapter, both replace {name}")
        problems += _shape_problems(plan, canonical, tensor, tensor.shape, shapes)
        change.replacement = tensor
    for module, low_rank in file.low_rank.items():
        canonical = canonical_name(f"{module}.weight")
        shape = (low_rank.b.shape[0], low_rank.a.shape[1])
        stored = shape[::-1] if _is_in_out(canonical) else shape
        problems += _shape_problems(plan, canonical, low_rank.b, stored, shapes)
        changes.setdefault(canonical, Change()).low_rank.append((low_rank, scale * low_rank.scale))
    for module, (tensor, factor) in file.biases.items():
        canonical = canonical_name(f"{module}.bias")
        problems += _shape_problems(plan, canonical, tensor, tensor.shape, shapes)
        changes.setdefault(canonical, Change()).biases.append((tensor, scale * factor))
    for name, tensor in file.unchanged.items():
        source = plan.sources.get(canonical_name(name), plan.sources[WTE])
        if source.shape != tensor.shape or not np.array_equal(_float32(source), _float32(tensor)):
            problems.append(f"{tensor.name}, which the adapter repeats, differs from {source.name}")
    return problems


def _shape_problems(
    plan: LoadPlan, name: str, tensor: StoredTensor, shape: tuple[int, ...], shapes: dict[str, tuple[int, ...]]
) -> list[str]:
    """Return the problem of a change of this canonical shape, if there is one."""
    if name not in shapes:
        return [f"{tensor.name} changes {name}, which the model does not have"]
    if shape != shapes[name]:
        resized = " (the adapter was trained with a resized vocabulary)" if name in (WTE, LM_HEAD) else ""
        return [f"{tensor.name} is for a weight {list(shape)}, and {name} is {list(shapes[name])}{resized}"]
    return []


def _is_in_out(name: str) -> bool:
    """Return True for the canonical weights stored as [in, out]: Conv1D and embeddings; the head is [out, in]."""
    return name != LM_HEAD


def _with_changes(
    plan: LoadPlan, changes: dict[str, Change], skipped: dict[str, str], adapters: tuple[Adapter, ...]
) -> LoadPlan:
    sources, zeros, head = dict(plan.sources), dict(plan.zero_filled), plan.head
    shapes = canonical_shapes(plan.config)
    if plan.tied and changes.keys() & {WTE, LM_HEAD}:
        sources[LM_HEAD] = replace(sources[WTE], mapped_name=LM_HEAD)
        head = "changed by an adapter, so kept"
    for name, change in changes.items():
        base = _zeros(sources, name, shapes[name]) if zeros.pop(name, None) else sources[name]
        # What a replacement holds is canonical; a base in another layout is transposed when it is loaded.
        transposed = plan.is_transposed(name)
        read = partial(_merged, base, change, transposed=transposed, name=name)
        sources[name] = StoredTensor(base.name, "F32", base.shape, base.file, read, base.mapped_name)
    plan = replace(plan, sources=sources, skipped=plan.skipped | skipped, head=head, zero_filled=zeros)
    return replace(plan, adapters=adapters, merged=sorted(changes))


def _zeros(sources: dict[str, StoredTensor], name: str, shape: tuple[int, ...]) -> StoredTensor:
    """Return a bias of zeros that the format omits."""
    weight = sources[name.removesuffix("bias") + "weight"]
    read: Callable[[], np.ndarray] = partial(np.zeros, shape, np.float32)
    return StoredTensor(name, "F32", shape, weight.file, read, name)


def _float32(tensor: StoredTensor) -> np.ndarray:
    with np.errstate(all="ignore"):  # converting a signalling NaN would warn
        return np.asarray(tensor.read()).astype(np.float32)


def _merged(base: StoredTensor, change: Change, *, transposed: bool, name: str) -> np.ndarray:
    """Return the changed values in the stored layout; sums and products are computed in float64 and rounded once."""
    if change.replacement:
        values = _float32(change.replacement)
        values = np.ascontiguousarray(values.T) if transposed else values
    else:
        values = _float32(base)
    in_out = _is_in_out(name) and not transposed
    factors = [_factors(low_rank, scale, in_out=in_out) for low_rank, scale in change.low_rank]
    added = [scale * _float32(tensor).astype(np.float64) for tensor, scale in change.biases]
    for start in range(0, len(values), _ROWS):
        part = slice(start, start + _ROWS)
        total = values[part].astype(np.float64)
        for left, right in factors:
            total += left[part] @ right
        for one in added:
            total += one[part]
        with np.errstate(over="ignore"):  # an infinite value is reported when the weights are checked
            values[part] = total
    return values


def _factors(low_rank: LowRank, scale: float, *, in_out: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return two float64 factors whose product is `scale` B A [out, in], or its transpose."""
    a, b = (_float32(tensor).astype(np.float64) for tensor in (low_rank.a, low_rank.b))
    return (a.T * scale, b.T) if in_out else (b * scale, a)
