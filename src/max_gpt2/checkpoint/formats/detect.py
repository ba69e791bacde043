"""Detect the format of a file by its first bytes, and find the weights file of a folder."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from max_gpt2.errors import CheckpointError

AGAIN = "Download the file again."
LLMC_MAGIC = 20240326
#: Hugging Face's names of weight files, in the order in which transformers looks for them.
NAMES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_START = 512
_TENSORFLOW_NAMES = re.compile(r"model\.ckpt.*|checkpoint|hparams\.json")


class Kind(Enum):
    """The supported formats."""

    INDEX = "an index of shards"
    SAFETENSORS = "safetensors"
    PICKLE = "PyTorch"
    LLMC = "llm.c"
    GGUF = "GGUF"


@dataclass(frozen=True)
class Foreign:
    """A recognised format that is not supported, and how to convert it to a supported one."""

    name: str
    remedy: str


TENSORFLOW = Foreign(
    "TensorFlow's checkpoint format, as OpenAI published GPT-2",
    "Convert the folder with transformers 4 and TensorFlow: transformers-cli convert --model_type gpt2 "
    "--tf_checkpoint FOLDER --pytorch_dump_output NEW; then give NEW, with --allow-pickle.",
)
_SAVE = "in transformers 4: GPT2LMHeadModel.from_pretrained(FOLDER, {}=True).save_pretrained(NEW); then give NEW."
HDF5 = Foreign("HDF5, as TensorFlow saves models (.h5)", f"Convert the folder {_SAVE.format('from_tf')}")
MSGPACK = Foreign("msgpack, as Flax saves models", f"Convert the folder {_SAVE.format('from_flax')}")
ONNX = Foreign("ONNX, a computation with its weights", "Use the checkpoint that it was exported from.")


def _is_pickle(start: bytes, _name: str) -> bool:
    zipped = start.startswith(b"PK\x03\x04") and b"/data.pkl" in start
    return zipped or bool(re.match(rb"\x80[\x02-\x05]", start))


#: Tried in this order. First bytes identify a format uniquely; names only matter where the bytes are ambiguous.
TABLE: list[tuple[Kind | Foreign, Callable[[bytes, str], bool]]] = [
    (Kind.INDEX, lambda start, name: name.endswith(".index.json")),
    (Kind.GGUF, lambda start, name: start.startswith(b"GGUF")),
    (Kind.LLMC, lambda start, name: start.startswith(LLMC_MAGIC.to_bytes(4, "little"))),
    (HDF5, lambda start, name: start.startswith(b"\x89HDF\r\n\x1a\n")),
    (Kind.SAFETENSORS, lambda start, name: start[8:9] == b"{"),
    (Kind.PICKLE, _is_pickle),
    (TENSORFLOW, lambda start, name: bool(_TENSORFLOW_NAMES.fullmatch(name))),
    (HDF5, lambda start, name: name.endswith(".h5")),
    (MSGPACK, lambda start, name: name.endswith(".msgpack") or bool(re.match(rb"[\x81-\x8f][\xa1-\xbf]", start))),
    (ONNX, lambda start, name: name.endswith(".onnx")),
]


def detect(path: Path) -> Kind:
    """Return the format of a file; raises CheckpointError that names an unsupported format."""
    start = _start_of(path)
    kind = _kind(start, path.name)
    if isinstance(kind, Foreign):
        raise CheckpointError(f"{path} is {kind.name}, which is not supported. {kind.remedy}")
    if kind:
        return kind
    if not start:
        raise CheckpointError(f"{path} is empty. {AGAIN}")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the weights. Run `git lfs pull` in its repository.")
    if start.lstrip().startswith(b"<"):
        raise CheckpointError(f"{path} is a web page, not weights: the download failed. {AGAIN}")
    raise CheckpointError(
        f"{path} is truncated, damaged or not a weights file: its first bytes are not those of "
        f"{', '.join(known.value for known in Kind if known is not Kind.INDEX)}. {AGAIN}"
    )


def weights_file(folder: Path) -> Path:
    """Return the weights file of a folder, or the index of its shards; raises CheckpointError unless there is one."""
    for name in NAMES:
        if (folder / name).exists():
            return folder / name
    files = sorted(path for path in folder.iterdir() if path.is_file())
    kinds = {path: _kind(_start_of(path), path.name) for path in files}
    found = [path for path, kind in kinds.items() if isinstance(kind, Kind)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise CheckpointError(f"{folder} has several files that could be the weights: {names}. Give one of the files.")
    for path, kind in kinds.items():
        if isinstance(kind, Foreign):
            raise CheckpointError(
                f"{folder} has no {NAMES[0]}, and {path.name} is {kind.name}, which is not supported. {kind.remedy}"
            )
    raise CheckpointError(
        f"{folder} has no {NAMES[0]}, nor weights in another format. Download the safetensors file, or give another "
        "folder. For a hub model that only has pytorch_model.bin, add --allow-pickle."
    )


def _kind(start: bytes, name: str) -> Kind | Foreign | None:
    return next((kind for kind, fits in TABLE if fits(start, name)), None)


def _start_of(path: Path) -> bytes:
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file. Give a folder with a checkpoint, or the file of its weights.")
    try:
        with path.open("rb") as file:
            return file.read(_START)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Check its permissions.") from error
