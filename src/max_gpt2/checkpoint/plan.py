"""What loading a checkpoint will do to each of its tensors, decided before any of them is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from max_gpt2.checkpoint.files import StoredTensor
from max_gpt2.checkpoint.layout import LM_HEAD, WTE, canonical_name, canonical_shapes, is_conv1d, why_skipped
from max_gpt2.config import GPT2Config
from max_gpt2.errors import CheckpointError, listed

#: The dtypes that float32 holds exactly.
EXACT = ("F32", "F16", "BF16")
_REMEDY = "Nothing was loaded: correct config.json if it does not belong to these weights, or take another checkpoint."

Head = Literal["tied", "stored and equal to wte, so tied", "stored and not equal to wte, so kept"]


@dataclass(frozen=True)
class LoadPlan:
    """Where each canonical tensor comes from, and what happens on the way.

    `sources` has no `lm_head.weight` when the head is tied to `wte`. `skipped` maps stored names to the reason.
    """

    sources: dict[str, StoredTensor]
    skipped: dict[str, str]
    head: Head

    @property
    def tied(self) -> bool:
        """Whether the head's weights are those of `wte`."""
        return LM_HEAD not in self.sources

    @property
    def transposed(self) -> list[str]:
        """The stored names of the Conv1D weights, which are turned from [in, out] into [out, in]."""
        return [stored.name for name, stored in self.sources.items() if is_conv1d(name)]

    @property
    def upcast(self) -> list[str]:
        """The stored names of the tensors that are made float32, which holds each of their values exactly."""
        return [stored.name for stored in self.sources.values() if stored.dtype != "F32"]

    @property
    def dtypes(self) -> list[str]:
        """The dtypes of the stored parameters."""
        return sorted({stored.dtype for stored in self.sources.values()})

    @property
    def parameters(self) -> int:
        """How many numbers the model has; a tied head counts once."""
        return sum(int(np.prod(stored.shape)) for stored in self.sources.values())


def make_plan(stored: list[StoredTensor], config: GPT2Config, folder: Path) -> LoadPlan:
    """Assign every stored tensor to a place in the model; raises CheckpointError that lists all that do not fit."""
    expected = canonical_shapes(config)
    sources: dict[str, StoredTensor] = {}
    skipped: dict[str, str] = {}
    problems: list[str] = []
    for tensor in stored:
        name = canonical_name(tensor.name)
        if name in sources:
            problems.append(f"{tensor.name} and {sources[name].name} are both {name}")
        elif name in expected:
            sources[name] = tensor
            problems += _misfits(tensor, expected[name], is_conv1d(name))
        elif reason := why_skipped(name):
            skipped[tensor.name] = reason
        else:
            problems.append(f"{tensor.name} {list(tensor.shape)} is no part of a GPT-2 with {config.n_layer} layers")
    optional = {LM_HEAD} if config.tie_word_embeddings else set()
    problems += [f"{name} {list(expected[name])} is missing" for name in expected if name not in {*sources, *optional}]
    if problems:
        raise CheckpointError(listed(f"The weights in {folder} do not fit its config", problems, _REMEDY))
    return _with_head(sources, skipped, config)


def _misfits(tensor: StoredTensor, canonical: tuple[int, ...], conv1d: bool) -> list[str]:
    problems = []
    shape = canonical[::-1] if conv1d else canonical
    if tensor.shape != shape:
        hint = " (it looks transposed already)" if conv1d and tensor.shape == canonical else ""
        problems.append(f"{tensor.name} is {list(tensor.shape)}, expected {list(shape)}{hint}")
    if tensor.dtype not in EXACT:
        problems.append(f"{tensor.name} is {tensor.dtype}, which is not one of {', '.join(EXACT)}")
    return problems


def _with_head(sources: dict[str, StoredTensor], skipped: dict[str, str], config: GPT2Config) -> LoadPlan:
    if LM_HEAD not in sources:
        return LoadPlan(sources, skipped, "tied")
    head = sources[LM_HEAD]
    if config.tie_word_embeddings and np.array_equal(head.read(), sources[WTE].read()):
        rest = {name: tensor for name, tensor in sources.items() if name != LM_HEAD}
        return LoadPlan(rest, skipped | {head.name: "equal to wte"}, "stored and equal to wte, so tied")
    return LoadPlan(sources, skipped, "stored and not equal to wte, so kept")
