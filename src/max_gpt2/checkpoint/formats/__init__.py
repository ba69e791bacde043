"""One file a format of weights; each reads what a file holds, without its values, into one `Source`."""

from max_gpt2.checkpoint.formats.read import read_source
from max_gpt2.checkpoint.formats.source import Source, StoredTensor

__all__ = ["Source", "StoredTensor", "read_source"]
