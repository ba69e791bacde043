"""Options for loading a checkpoint."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack, get_args

from max_gpt2.config import Kernels
from max_gpt2.errors import RequestError
from max_gpt2.weights.types import DEFAULT_WEIGHTS, WeightsOption

#: The files of an adapter, as PEFT names them: its config, and its weights in one of two formats.
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True)
class Adapter:
    """The folder of a LoRA adapter, and the factor of its change."""

    path: Path
    scale: float = 1.0

    @property
    def files(self) -> list[Path]:
        """The files of the adapter: its config and its weights."""
        names = (ADAPTER_CONFIG, next((name for name in ADAPTER_WEIGHTS if (self.path / name).is_file()), ""))
        return [self.path / name for name in names if name]

    @classmethod
    def parse(cls, value: str | Path) -> "Adapter":
        """Return the adapter of a folder, "FOLDER:SCALE" with a number for SCALE; raises RequestError."""
        path = Path(value).expanduser()
        name, colon, scale = str(value).rpartition(":")
        if colon and not path.exists():
            try:
                path, factor = Path(name).expanduser(), float(scale)
            except ValueError:
                factor = math.nan
            if not math.isfinite(factor):
                raise RequestError(f'--adapter "{value}" does not exist, and {scale!r} is not a scale. Use DIR:0.5.')
            return cls(path, factor)
        return cls(path)


@dataclass(frozen=True)
class LoadOptions:
    """Options for reading a checkpoint and compiling its model.

    Attributes:
        tokenizer: A folder with the tokenizer to use instead of the checkpoint's own.
        allow_pickle: Read formats based on Python's pickle; only plain tensors are read.
        allow_nonfinite: Load weights that contain NaN or infinite values instead of raising CheckpointError.
        adapters: LoRA adapters, whose changes are added to the weights.
        kernels: "mojo" computes with the kernels of this package, "builtin" with MAX's own operations.
        weights: The type of the weights in memory: "auto" keeps that of the file, so that nothing is lost. The builtin
            kernels compute with float32.

    Raises RequestError for an unknown type, and for one that the kernels do not support.

    """

    tokenizer: str | Path | None = None
    allow_pickle: bool = False
    allow_nonfinite: bool = False
    kernels: Kernels = "mojo"
    adapters: tuple[Adapter, ...] = ()
    weights: WeightsOption = DEFAULT_WEIGHTS

    def __post_init__(self) -> None:
        """Check the type of the weights."""
        known = get_args(WeightsOption)
        if self.weights not in known:
            raise RequestError(f"The type of weights {self.weights!r} is unknown. Use one of {', '.join(known)}.")
        if self.kernels == "builtin" and self.weights not in ("auto", "float32"):
            raise RequestError(
                f"The builtin kernels compute with float32 weights, not {self.weights}. Use the mojo kernels, or "
                "float32."
            )
        if self.kernels == "builtin":
            object.__setattr__(self, "weights", "float32")

    @classmethod
    def from_keywords(cls, **options: Unpack["LoadKeywords"]) -> "LoadOptions":
        """Return the options given as keywords; an adapter may be a folder or "FOLDER:SCALE"."""
        adapters = [one if isinstance(one, Adapter) else Adapter.parse(one) for one in options.get("adapters", ())]
        fields: dict[str, Any] = {**options, "adapters": tuple(adapters)}
        return cls(**fields)


class LoadKeywords(TypedDict, total=False):
    """The fields of `LoadOptions` as the keyword options of `GPT2.from_pretrained`."""

    tokenizer: str | Path | None
    allow_pickle: bool
    allow_nonfinite: bool
    kernels: Kernels
    adapters: Sequence[str | Path | Adapter]
    weights: WeightsOption


#: The default of every function that loads a checkpoint.
DEFAULT_OPTIONS = LoadOptions()
