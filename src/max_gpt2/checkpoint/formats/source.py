"""The result of every format reader: a checkpoint's stored tensors, config and tokenizer, without tensor values."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

from max_gpt2.checkpoint.formats.detect import NAMES
from max_gpt2.checkpoint.layout import canonical_name
from max_gpt2.config import GPT2Config
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.weights.quantise import FLOATS

#: The dtypes, by safetensors' names, that float32 holds exactly.
EXACT = FLOATS


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as stored in a file.

    Attributes:
        name: The name in the file.
        dtype: The name of the stored dtype, such as "F16" or "Q8_0".
        shape: The stored shape.
        file: The file that contains the values.
        read: Return the values exactly, memory-mapped where possible; a quantised tensor is dequantised to float32.
        mapped_name: The canonical name, if it does not follow from `name` by `canonical_name`.
        quantised: Whether the values are stored in a quantised format.
        read_blocks: Return the blocks of a quantised tensor as they are stored, [*shape[:-1], row_bytes] of uint8,
            memory-mapped.
        size: The bytes of a quantised tensor.
        read_kept: Return what `read`, or for a quantised tensor `read_blocks`, returns, for weights that are used in
            place; None if the tensor is not mapped.

    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    read: Callable[[], np.ndarray] = field(repr=False, compare=False)
    mapped_name: str = ""
    quantised: bool = False
    read_blocks: Callable[[], np.ndarray] | None = field(default=None, repr=False, compare=False)
    size: int = 0
    read_kept: Callable[[], np.ndarray] | None = field(default=None, repr=False, compare=False)

    @property
    def nbytes(self) -> int:
        """The bytes of the values as they are stored."""
        return self.size if self.quantised else EXACT[self.dtype].itemsize * prod(self.shape)

    @property
    def canonical(self) -> str:
        """The name of the tensor in the canonical state dict, if the model has it."""
        return self.mapped_name or canonical_name(self.name)

    @property
    def read_dtype(self) -> str:
        """The name of the dtype of the values that `read` returns."""
        return "F32" if self.quantised else self.dtype


@dataclass(frozen=True)
class Source:
    """A checkpoint in one of the supported formats.

    Attributes:
        format: The name of the format.
        path: The requested file or folder.
        tensors: All stored tensors.
        config: The model's config.
        conv1d: Whether the weights of the four Conv1D layers are stored as `[in, out]`.
        skipped: Stored data that the reader ignores, with the reason.
        no_biases: The reason why the model has no biases; empty when it has them.
        tokenizer: Create the tokenizer stored in the weights' file, given `vocab_size`; None without one.
        pickled: Whether the tensors were unpickled with PyTorch.
        wrapped: Whether the file contains the state dict beside other values.

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
    wrapped: bool = False

    @property
    def folder(self) -> Path:
        """The folder of the checkpoint, which may contain its tokenizer."""
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def config_json(self) -> Path | None:
        """The file that the config was read from; None for formats other than Hugging Face's."""
        return self.folder / "config.json" if self.conv1d else None

    @property
    def transformers_reads_it(self) -> bool:
        """Return True if transformers, which selects files and tensors by name, loads the same weights from `path`."""
        names = {tensor.file.name for tensor in self.tensors}
        usual = names <= set(NAMES) or any((self.folder / name).exists() for name in NAMES if name.endswith(".json"))
        suffix = ".bin" if self.pickled else ".safetensors"
        suffixes = all(name.endswith(suffix) for name in names)
        # It strips one prefix only; a tensor with another prefix is ignored and its weight initialised randomly.
        prefixes = all(one.canonical in (one.name, f"transformer.{one.name}") for one in self.tensors)
        return self.conv1d and not self.wrapped and self.path.is_dir() and usual and suffixes and prefixes
