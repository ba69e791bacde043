"""One kind of checkpoint, and the list of all of them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from max_gpt2.checkpoint import Checkpoint, LoadOptions, load_checkpoint
from max_gpt2.checkpoint.plan import Head, LoadPlan
from max_gpt2.errors import MaxGPT2Error
from tests.checkpoints import random_ids, reference_model, write_tokenizer


class Group(Enum):
    """The tables of docs/zoo.md, in their order."""

    KNOWN = "Known repositories"
    LAYOUT = "Layouts"
    FLAGS = "Fields of the config"
    FORMATS = "Other formats"
    BROKEN = "Hostile and broken files"
    PROMPTS = "Prompts"


@dataclass(frozen=True)
class Loads:
    """What the plan of a checkpoint has to say.

    `skipped` counts the tensors that are left out, by the reason; `dtypes` are the stored ones, of which all but F32
    are made float32; `zeros` is how many biases the format leaves out; `by_transformers` whether transformers finds the
    same weights when it reads the folder itself.
    """

    head: Head = "tied"
    skipped: dict[str, int] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ("F32",)
    zeros: int = 0
    by_transformers: bool = True

    @classmethod
    def as_planned(cls, plan: LoadPlan) -> "Loads":
        """Return what a plan says."""
        skipped, zeros = dict(Counter(plan.skipped.values())), len(plan.zero_filled)
        return cls(plan.head, skipped, tuple(plan.dtypes), zeros, plan.origin.transformers_reads_it)


@dataclass(frozen=True)
class Fixture:
    """A kind of checkpoint.

    `build` writes one into an empty folder and returns the PyTorch model that has its weights, or None when it has to
    be refused. `loads` is what its plan says when it is not. `tokenizer` is the folder in it to name with --tokenizer,
    and `ask` does with the loaded checkpoint what has to be refused, when it is not the checkpoint itself.
    """

    group: Group
    row: str
    build: Callable[[Path], nn.Module | None]
    loads: Loads = field(default_factory=Loads)
    file: str = ""
    allow_pickle: bool = False
    tokenizer: str | None = None
    ask: Callable[[Checkpoint], object] | None = None

    def load(self, folder: Path) -> Checkpoint:
        """Load it as a user would."""
        tokenizer = None if self.tokenizer is None else folder / self.tokenizer
        checkpoint = load_checkpoint(
            folder / self.file, LoadOptions(tokenizer=tokenizer, allow_pickle=self.allow_pickle)
        )
        if self.ask:
            self.ask(checkpoint)
        return checkpoint

    def refusal(self, folder: Path) -> str:
        """Return what is said when it is loaded, on one line, the folder's name taken out; "" when it loads."""
        try:
            self.load(folder)
        except MaxGPT2Error as error:
            lines = str(error).replace(str(folder), "FOLDER").splitlines()
            return " ".join(line.strip() for line in lines)
        return ""


#: How many positions are compared: the last, which see all that come before.
LAST = 100
ZOO: dict[str, Fixture] = {}
Build = Callable[[Path], nn.Module | None]


def fixture(group: Group, row: str, **options: Any) -> Callable[[Build], Build]:
    """Put a kind of checkpoint on the list."""

    def register(build: Build) -> Build:
        assert row not in ZOO
        ZOO[row] = Fixture(group, row, build, **options)
        return build

    return register


def saved(folder: Path, model: Any = None) -> nn.Module:
    """Write a model as transformers saves it, with a tokenizer."""
    model = reference_model() if model is None else model
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return model


def question(checkpoint: Checkpoint) -> np.ndarray:
    """Return ids from everywhere in the vocabulary that fill the context: [1, n_positions]."""
    return random_ids(1, checkpoint.config.n_positions, checkpoint.config.vocab_size)


def answer(model: nn.Module, ids: np.ndarray) -> np.ndarray:
    """Return a model's last logits, transformers' as well as others': [1, seq] -> [1, at most 100, vocab]."""
    with torch.no_grad():
        output = model(torch.from_numpy(ids))
    return (output if isinstance(output, torch.Tensor) else output.logits).numpy()[:, -LAST:]
