"""Prepares a folder that MAX's server can load, from a checkpoint of any supported format."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from max_gpt2._progress import Runner, silently
from max_gpt2.checkpoint import (
    DEFAULT_OPTIONS,
    LoadOptions,
    LoadPlan,
    inspect_checkpoint,
    load_weights,
    loading_label,
    read_tokenizer,
)
from max_gpt2.checkpoint.convert import config_files, convert, eos_token_ids, tokenizer_files
from max_gpt2.checkpoint.destination import atomic_folder, report_os_errors, write_synced
from max_gpt2.config import GPT2Config
from max_gpt2.errors import DestinationError
from max_gpt2.model.compile_cache import compiled_files
from max_gpt2.tokenizer import GPT2Tokenizer

WEIGHTS, GGUF_WEIGHTS = "model.safetensors", "model.gguf"
#: Part of the key of a folder; increase it when the contents of the folders change.
_VERSION = "2"


@dataclass(frozen=True)
class Prepared:
    """A folder for MAX's server: the config and tokenizer in MAX's format, and the weights, linked or converted.

    `weights` are the weight files in the folder; `tokenizer` encodes the prompts.
    """

    folder: Path
    weights: list[Path]
    config: GPT2Config
    tokenizer: GPT2Tokenizer
    allow_nonfinite: bool = False


def prepare(model: str | Path, options: LoadOptions = DEFAULT_OPTIONS, *, run: Runner = silently) -> Prepared:
    """Prepare "demo", a hub id, a folder or a file for serving; a folder that is already prepared is reused.

    Hugging Face safetensors and GGUF files are linked; other formats, and models with adapters, are converted into the
    cache of compiled models. Raises DestinationError if the cache cannot be written, and MaxGPT2Error as
    `load_checkpoint` does.
    """
    _, config, plan = inspect_checkpoint(model, options)
    tokenizer = read_tokenizer(plan, options.tokenizer)
    run(
        loading_label(plan, "Checking the weights"),
        lambda: load_weights(plan, allow_nonfinite=options.allow_nonfinite) and None,
    )
    eos_ids = eos_token_ids(plan, tokenizer)
    files = tokenizer_files(tokenizer, config, eos_ids) | config_files(plan, eos_ids)
    source, key = _keys(plan, files)
    folder = served_folders() / f"{source}-{key}"
    if not folder.is_dir():
        with report_os_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        for old in folder.parent.glob(f"{source}-*"):
            shutil.rmtree(old, ignore_errors=True)
        try:
            if plan.origin.format.startswith(("Hugging Face safetensors", "GGUF")) and not plan.adapters:
                _link(plan, files, folder)
            else:
                run("Converting", lambda: convert(model, folder, options))
        except DestinationError:
            if not folder.is_dir():  # unless another server has created it meanwhile
                raise
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob(GGUF_WEIGHTS)])
    return Prepared(folder, weights, config, tokenizer, options.allow_nonfinite)


def served_folders() -> Path:
    """Return the parent of the prepared folders, in MAX's cache; raises DestinationError if MAX is not installed."""
    cache = compiled_files()
    if not cache:
        raise DestinationError('MAX is not installed. Install the server: pip install "max-gpt2[serve]".')
    return cache / "served"


def _keys(plan: LoadPlan, files: dict[str, bytes]) -> tuple[str, str]:
    """Return a hash of the checkpoint's path, and a hash of everything that the prepared folder depends on."""
    origin = str(Path(os.path.realpath(plan.origin.path)))
    digest = hashlib.sha256(f"{_VERSION}\n{origin}\n".encode())
    for path in sorted({tensor.file for tensor in plan.origin.tensors}):
        state = path.stat()
        digest.update(f"{path} {state.st_size} {state.st_mtime_ns}\n".encode())
    for adapter in plan.adapters:
        digest.update(f"{adapter.scale!r}\n".encode())
        for path in adapter.files:
            digest.update(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode())
    for name, content in sorted(files.items()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return hashlib.sha256(origin.encode()).hexdigest()[:12], digest.hexdigest()[:20]


def _link(plan: LoadPlan, files: dict[str, bytes], folder: Path) -> None:
    """Write a folder with links to the checkpoint's weight files."""
    sources = sorted({tensor.file for tensor in plan.origin.tensors})
    with atomic_folder(folder, force=False) as partial:
        for source in sources:
            name = GGUF_WEIGHTS if plan.origin.format == "GGUF" else WEIGHTS if len(sources) == 1 else source.name
            (partial / name).symlink_to(os.path.realpath(source))
        if len(sources) > 1:
            weight_map = {tensor.name: tensor.file.name for tensor in plan.origin.tensors}
            index = json.dumps({"metadata": {}, "weight_map": weight_map}, indent=2)
            write_synced(partial / f"{WEIGHTS}.index.json", [index.encode()])
        for name, content in files.items():
            write_synced(partial / name, [content])
