"""One kind of checkpoint, and the list of all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from max_gpt2.checkpoint import Checkpoint, load_checkpoint
from max_gpt2.errors import MaxGPT2Error
from tests.checkpoints import reference_logits, reference_model, write_tokenizer


class Group(Enum):
    """The tables of docs/zoo.md, in their order."""

    KNOWN = "Known repositories"
    LAYOUT = "Layouts"
    FLAGS = "Fields of the config"
    FORMATS = "Other formats"
    BROKEN = "Hostile and broken files"


#: Logits after every token, computed by PyTorch from weights that max-gpt2 never saw: [1, seq] -> [1, seq, vocab].
Logits = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Fixture:
    """A kind of checkpoint.

    `build` writes one into an empty folder and returns what its logits have to be, or None when it has to be refused.
    """

    group: Group
    row: str
    build: Callable[[Path], Logits | None]
    file: str = ""
    allow_pickle: bool = False

    def load(self, folder: Path) -> Checkpoint:
        """Load it as a user would."""
        return load_checkpoint(folder / self.file, allow_pickle=self.allow_pickle)

    def refusal(self, folder: Path) -> str:
        """Return what is said when it is loaded, on one line, the folder's name taken out; "" when it loads."""
        try:
            self.load(folder)
        except MaxGPT2Error as error:
            lines = str(error).replace(str(folder), "FOLDER").splitlines()
            return " ".join(line.strip() for line in lines)
        return ""


ZOO: dict[str, Fixture] = {}
Build = Callable[[Path], Logits | None]


def fixture(group: Group, row: str, **options: Any) -> Callable[[Build], Build]:
    """Put a kind of checkpoint on the list."""

    def register(build: Build) -> Build:
        assert row not in ZOO
        ZOO[row] = Fixture(group, row, build, **options)
        return build

    return register


def saved(folder: Path, model: Any = None) -> Logits:
    """Write a model as transformers saves it, with a tokenizer."""
    model = reference_model() if model is None else model
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return computed_by(model)


def computed_by(model: Any) -> Logits:
    """Return a model's logits as a function of arrays."""
    return lambda ids: reference_logits(model, ids)
