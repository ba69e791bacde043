"""What every reader returns: the tensors of a checkpoint as they are stored, none of them read yet."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np

from max_gpt2.checkpoint.formats.detect import NAMES
from max_gpt2.checkpoint.layout import canonical_name
from max_gpt2.config import GPT2Config
from max_gpt2.tokenizer import GPT2Tokenizer

#: The dtypes, by safetensors' names, that float32 holds exactly.
EXACT = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a file has it: its name there, the name of its dtype ("F16", "Q8_0"), its shape, its file.

    `read` returns the values, bit for bit, mapped from the file where that is possible, so that who keeps them has to
    copy them; those of a quantised tensor are float32. `place` is the canonical name, when it is not what
    `canonical_name` makes of `name`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    read: Callable[[], np.ndarray] = field(repr=False, compare=False)
    place: str = ""
    quantised: bool = False

    @property
    def canonical(self) -> str:
        """The name that the tensor has in the canonical state dict, if it is part of it."""
        return self.place or canonical_name(self.name)

    @property
    def read_dtype(self) -> str:
        """The name of the dtype that `read` returns."""
        return "F32" if self.quantised else self.dtype


@dataclass(frozen=True)
class Source:
    """A checkpoint of some format.

    `path` is the file or the folder that was asked for, `conv1d` whether the weights of the four Conv1D layers are
    stored `[in, out]`, `skipped` what the reader itself leaves out, and why. `no_biases` says why the model has no
    biases at all, when it has none. `tokenizer` makes the tokenizer that the weights' own file holds, given the
    model's vocab_size. `pickled` says whether PyTorch had to read it.
    """

    format: str
    path: Path
    tensors: list[StoredTensor]
    config: GPT2Config
    conv1d: bool = False
    skipped: dict[str, str] = field(default_factory=dict)
    no_biases: str = ""
    tokenizer: Callable[[int], GPT2Tokenizer] | None = None
    pickled: bool = False

    @property
    def folder(self) -> Path:
        """The folder of the checkpoint, in which its tokenizer may be."""
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def config_json(self) -> Path | None:
        """The file that the config is from; only Hugging Face's formats have one."""
        return self.folder / "config.json" if self.conv1d else None

    @property
    def transformers_reads_it(self) -> bool:
        """Whether transformers, which goes by names, finds the same weights in `path`."""
        names = {tensor.file.name for tensor in self.tensors}
        usual = names <= set(NAMES) or any((self.folder / name).exists() for name in NAMES if name.endswith(".json"))
        ending = ".bin" if self.pickled else ".safetensors"
        endings = all(name.endswith(ending) for name in names)
        # It knows one prefix of its own; a tensor with another it leaves out, and computes with random numbers.
        prefixes = all(one.canonical in (one.name, f"transformer.{one.name}") for one in self.tensors)
        return self.conv1d and self.path.is_dir() and usual and endings and prefixes
