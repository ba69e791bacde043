"""Readers of the checkpoint formats, one module each. `read_source` is the entry point.

A reader returns a `Source` without reading tensor values. `read_source` lives here, not in `source.py`, because every
reader imports `source.py`.
"""

from pathlib import Path

from max_gpt2.checkpoint.formats.detect import Kind, detect, weights_file
from max_gpt2.checkpoint.formats.gguf import read_gguf
from max_gpt2.checkpoint.formats.huggingface import read_safetensors, read_shards, read_state_dict
from max_gpt2.checkpoint.formats.llmc import read_llmc
from max_gpt2.checkpoint.formats.nanogpt import is_nanogpt, read_nanogpt
from max_gpt2.checkpoint.formats.pytorch import load_pickle
from max_gpt2.checkpoint.formats.source import Source, StoredTensor

__all__ = ["Source", "StoredTensor", "read_source"]


def read_source(path: Path, allow_pickle: bool = False) -> Source:
    """Detect the format of a file or folder, and read its tensor index and config but no tensor values.

    Raises CheckpointError or ConfigError for an unsupported or damaged checkpoint, and MissingExtraError for a pickle
    without PyTorch.
    """
    file = weights_file(path) if path.is_dir() else path
    match detect(file):
        case Kind.INDEX:
            return read_shards(path, file, allow_pickle)
        case Kind.SAFETENSORS:
            return read_safetensors(path, file)
        case Kind.LLMC:
            return read_llmc(path, file)
        case Kind.GGUF:
            return read_gguf(path, file)
        case Kind.PICKLE:
            content = load_pickle(file, allow_pickle)
            if is_nanogpt(content):
                return read_nanogpt(path, file, content)
            return read_state_dict(path, file, content)
