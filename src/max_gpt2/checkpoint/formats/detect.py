"""Detect the format of a file by its first bytes, and find the weights file of a folder."""

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from max_gpt2.errors import CheckpointError

AGAIN = "Download the file again."
WEIGHTS = "Give a folder with a checkpoint, or the file of its weights."
LLMC_MAGIC = 20240326
#: Hugging Face's names of weight files, in the order in which transformers looks for them.
NAMES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_START = 512
#: Files beside the weights: the state of a training run (Trainer, Accelerate), and nanoGPT's vocabulary.
_NOT_WEIGHTS = re.compile(r"training_args\.bin|meta\.pkl|(optimizer|scheduler|scaler|rng_state|random_states).*\.\w+")
_ADAPTER = re.compile(r"adapter_model\..*")
_ZERO_NAMES = re.compile(r"(bf16_|fp16_)?zero_pp_rank_.*")
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
_EXPORTED = "Use the checkpoint that it was exported from."
ONNX = Foreign("ONNX, a computation with its weights", _EXPORTED)
TORCHSCRIPT = Foreign("TorchScript, as torch.jit.save and rust-bert write it", _EXPORTED)
GGML = Foreign(
    "ggml's format from before GGUF",
    "Use the checkpoint that it was converted from, or convert that to GGUF with llama.cpp's convert_hf_to_gguf.py.",
)
DISTCP = Foreign(
    "a shard of PyTorch's distributed checkpoint, as FSDP saves it",
    "Merge the shards: python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER pytorch_model.bin; "
    "then give a folder with that file and config.json, with --allow-pickle.",
)
ZERO = Foreign(
    "a shard of DeepSpeed's ZeRO, with the state of the optimizer",
    "Merge the shards with zero_to_fp32.py, which DeepSpeed writes beside them, and give the folder that it writes.",
)


def _is_pickle(start: bytes, _name: str) -> bool:
    zipped = start.startswith(b"PK\x03\x04") and b"/data.pkl" in start
    return zipped or bool(re.match(rb"\x80[\x02-\x05]", start))


#: Tried in this order. First bytes identify a format uniquely; names only matter where the bytes are ambiguous.
TABLE: list[tuple[Kind | Foreign, Callable[[bytes, str], bool]]] = [
    (DISTCP, lambda start, name: name.endswith(".distcp")),
    (ZERO, lambda start, name: bool(_ZERO_NAMES.fullmatch(name))),
    (Kind.INDEX, lambda start, name: name.endswith(".index.json")),
    (Kind.GGUF, lambda start, name: start.startswith(b"GGUF")),
    (Kind.LLMC, lambda start, name: start.startswith(LLMC_MAGIC.to_bytes(4, "little"))),
    (GGML, lambda start, name: start[:4] in (b"lmgg", b"fmgg", b"tjgg", b"algg")),
    (HDF5, lambda start, name: start.startswith(b"\x89HDF\r\n\x1a\n")),
    (Kind.SAFETENSORS, lambda start, name: start[8:9] == b"{"),
    (Kind.PICKLE, _is_pickle),
    (TENSORFLOW, lambda start, name: bool(_TENSORFLOW_NAMES.fullmatch(name))),
    (HDF5, lambda start, name: name.endswith(".h5")),
    (MSGPACK, lambda start, name: name.endswith(".msgpack") or bool(re.match(rb"[\x81-\x8f][\xa1-\xbf]", start))),
    # The first field of ONNX is its version; the second is the name of the exporting program.
    (ONNX, lambda start, name: name.endswith(".onnx") or bool(re.match(rb"\x08[\x01-\x20]\x12.[ -~]{3}", start))),
]


def detect(path: Path) -> Kind:
    """Return the format of a file; raises CheckpointError that names an unsupported format."""
    if path.is_file() and _ADAPTER.fullmatch(path.name):
        raise _adapter_error(path)
    if path.is_file() and _NOT_WEIGHTS.fullmatch(path.name):
        raise CheckpointError(f"{path} contains no weights: training programs write it beside them. {WEIGHTS}")
    start = _start_of(path)
    kind = _kind(start, path)
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
    files = sorted(path for path in folder.iterdir() if path.is_file() and not _NOT_WEIGHTS.fullmatch(path.name))
    if adapter := next((path for path in files if _ADAPTER.fullmatch(path.name)), None):
        raise _adapter_error(adapter)
    kinds = {path: _kind(_start_of(path), path) for path in files}
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


def _kind(start: bytes, path: Path) -> Kind | Foreign | None:
    if start.startswith(b"PK\x03\x04") and _is_torchscript(path):
        return TORCHSCRIPT
    return next((kind for kind, fits in TABLE if fits(start, path.name)), None)


def _is_torchscript(path: Path) -> bool:
    """Return True for an archive with code, which `torch.save` does not write."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except Exception:  # the library raises many kinds for a damaged archive
        return False


def _adapter_error(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is a PEFT adapter, such as LoRA: a change of a base model, not a model. Load its base model "
        f"with --adapter {path.parent}."
    )


def _start_of(path: Path) -> bytes:
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file. {WEIGHTS}")
    try:
        with path.open("rb") as file:
            return file.read(_START)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Check its permissions.") from error
