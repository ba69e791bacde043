"""Convert a checkpoint of any format to a Hugging Face folder."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from max_gpt2.checkpoint import DEFAULT_OPTIONS, LoadOptions, LoadPlan, inspect_checkpoint, read_tokenizer
from max_gpt2.checkpoint.destination import atomic_folder, check_disjoint, check_space, find_target, write_synced
from max_gpt2.checkpoint.formats.source import EXACT
from max_gpt2.checkpoint.layout import canonical_shapes
from max_gpt2.checkpoint.load import stored_values
from max_gpt2.config import ALIASES, GPT2Config, read_json
from max_gpt2.tokenizer import END_OF_TEXT, GPT2Tokenizer

#: Fields of the source's config that are not copied: they describe how it was written, or duplicate sizes under other
#: names, which could disagree.
_DROPPED = (
    *ALIASES,
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "attn_implementation",
    "auto_map",
    "n_ctx",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
)
_TORCH_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def eos_token_ids(plan: LoadPlan, tokenizer: GPT2Tokenizer) -> list[int]:
    """Return the ids that end a sequence: those of the config, or that of `<|endoftext|>` for formats without one."""
    config = plan.origin.config
    known = [id_ for id_ in config.eos_token_ids if id_ < config.vocab_size]
    if known or plan.origin.config_json or END_OF_TEXT not in tokenizer.vocab:
        return known
    return [tokenizer.end_of_text]


def config_files(plan: LoadPlan, eos_ids: list[int]) -> dict[str, bytes]:
    """Return the config files by name: those of the source with the fields that still apply, or a new `config.json`.

    `config.json` is the last one: an interrupted write must not leave a folder that looks like a checkpoint.
    """
    source = plan.origin.config_json
    ends = {"eos_token_id": eos_ids if len(eos_ids) > 1 else next(iter(eos_ids), None)}
    known = asdict(plan.origin.config)
    del known["bos_token_id"], known["eos_token_ids"]
    known |= {
        "architectures": ["GPT2LMHeadModel"],
        "dtype": _torch_dtype(plan),
        "model_type": "gpt2",
        "tie_word_embeddings": plan.tied,
    }
    values = read_json(source) if source else {"bos_token_id": first(plan.origin.config.bos_token_id, *eos_ids)}
    files = {}
    if source and (generation := source.with_name("generation_config.json")).is_file():
        files[generation.name] = json_file(_applicable(plan, read_json(generation)) | ends)
    return files | {"config.json": json_file(_applicable(plan, values) | known | ends)}


def first(*ids: int | None) -> int | None:
    """Return the first id that is not None."""
    return next((id_ for id_ in ids if id_ is not None), None)


def _applicable(plan: LoadPlan, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that still apply; ids outside the vocabulary become null."""
    fields = {name: value for name, value in values.items() if name not in _DROPPED}
    ids = range(plan.origin.config.vocab_size)
    invalid = [name for name, value in fields.items() if name.endswith("_token_id") and _is_out_of_range(value, ids)]
    return fields | dict.fromkeys(invalid)


def _is_out_of_range(value: object, ids: range) -> bool:
    return isinstance(value, int) and value not in ids


def _torch_dtype(plan: LoadPlan) -> str:
    """Return PyTorch's name of the dtype of the weights; float32 if they have several."""
    stored = set(plan.read_dtypes.values())
    return _TORCH_NAMES[stored.pop()] if len(stored) == 1 else "float32"


def json_file(values: Mapping[str, Any]) -> bytes:
    """Return the content of a JSON file, with sorted names so that it is reproducible."""
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()


#: Tokenizer files that are copied unchanged.
_COPIED = (
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


def tokenizer_files(tokenizer: GPT2Tokenizer, config: GPT2Config, eos_ids: list[int]) -> dict[str, bytes]:
    """Return the tokenizer files by name: `tokenizer.json`, the files beside it, and those derived from it.

    `eos_ids` are the ids that end a sequence.
    """
    files = {"tokenizer.json": tokenizer.json.encode()}
    if tokenizer.folder:
        found = [tokenizer.folder / name for name in _COPIED]
        files |= {path.name: path.read_bytes() for path in found if path.is_file()}
    content = json.loads(tokenizer.json)
    if is_standard(content) and not {"vocab.json", "merges.txt"} <= files.keys():
        files |= _slow_files(content)
    tokens = {id_: token for token, id_ in tokenizer.vocab.items()}
    default = END_OF_TEXT if END_OF_TEXT in tokenizer.vocab else None
    eos_token = next((tokens[id_] for id_ in eos_ids if id_ in tokens), default)
    return {"tokenizer_config.json": _tokenizer_config(content, eos_token, config.n_positions)} | files


def is_standard(content: dict[str, Any]) -> bool:
    """Return True if the vocabulary and the merges determine the tokenizer, as in GPT-2 but not in every fine-tune."""
    split = content.get("pre_tokenizer") or {}
    byte_level = split.get("type") == "ByteLevel" and split.get("use_regex", True)
    return byte_level and "merges" in content["model"] and not content.get("normalizer")


def _slow_files(content: dict[str, Any]) -> dict[str, bytes]:
    """Return `vocab.json` and `merges.txt`, which older programs read, and `added_tokens.json` if there are any."""
    model = content["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    vocab = dict(sorted(model["vocab"].items(), key=lambda item: item[1]))
    added = {token["content"]: token["id"] for token in content.get("added_tokens") or []}
    later = {token: id_ for token, id_ in added.items() if token not in vocab}
    files = {
        "vocab.json": json.dumps(vocab, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
    }
    if later:
        files["added_tokens.json"] = json.dumps(later, ensure_ascii=False)
    return {name: text.encode() for name, text in files.items()}


def _tokenizer_config(content: dict[str, Any], eos_token: str | None, n_positions: int) -> bytes:
    """Return `tokenizer_config.json`, with the special tokens: transformers would otherwise add its own new ids."""
    standard = is_standard(content)
    values: dict[str, Any] = dict.fromkeys(("bos_token", "eos_token", "unk_token"), eos_token)
    values |= {
        "add_prefix_space": standard and bool(content["pre_tokenizer"].get("add_prefix_space")),
        "model_max_length": n_positions,
        # In transformers, GPT2Tokenizer reads only the vocabulary and merges; the other class reads tokenizer.json.
        "tokenizer_class": "GPT2Tokenizer" if standard else "PreTrainedTokenizerFast",
    }
    return json_file(values)


#: A callback that takes the number of bytes written so far and the total.
Progress = Callable[[int, int], object]
#: The dtype and shape of each tensor by name, in the order of the file.
Layout = Mapping[str, tuple[str, tuple[int, ...]]]
#: safetensors stores wider dtypes first, which aligns all tensors.
_ORDER = ("F32", "BF16", "F16")


def stored_layout(plan: LoadPlan) -> Layout:
    """Return the layout of the converted file."""
    shapes = canonical_shapes(plan.origin.config)
    names = sorted(plan.read_dtypes.items(), key=lambda item: (_ORDER.index(item[1]), item[0]))
    return {name: (dtype, shapes[name]) for name, dtype in names}


def size(layout: Layout) -> int:
    """Return the total size of the tensors in bytes."""
    return sum(_bytes(dtype, shape) for dtype, shape in layout.values())


def header(layout: Layout, start: int = 0) -> bytes:
    """Return the header of a safetensors file, padded so that the tensors start at `start` modulo 8 bytes."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape) in layout.items():
        end = offset + _bytes(dtype, shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * ((start - len(text)) % 8)  # preceded by 8 bytes, its length
    return len(text).to_bytes(8, "little") + text


def write_weights(plan: LoadPlan, path: Path, progress: Progress, *, allow_nonfinite: bool = False) -> None:
    """Write the weights of a checkpoint as safetensors.

    Raises OSError, and CheckpointError after the last tensor if any have NaN or infinite values.
    """
    layout = stored_layout(plan)

    def chunks() -> Iterator[bytes | memoryview]:
        yield header(layout)
        done, total = 0, size(layout)
        for name, values in stored_values(plan, layout, allow_nonfinite=allow_nonfinite):
            yield np.ascontiguousarray(values.T if plan.is_transposed(name) else values).view(np.uint8).data
            done += values.nbytes
            progress(done, total)

    write_synced(path, chunks())


def _bytes(dtype: str, shape: tuple[int, ...]) -> int:
    return EXACT[dtype].itemsize * prod(shape)


WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Conversion:
    """A written checkpoint: its folder, its files with their sizes in bytes, and the load plan of the source."""

    folder: Path
    plan: LoadPlan
    files: dict[str, int]

    @property
    def tensors(self) -> int:
        """The number of tensors."""
        return len(self.plan.read_dtypes)

    @property
    def dtypes(self) -> list[str]:
        """The dtypes of the weights."""
        return sorted(set(self.plan.read_dtypes.values()))

    @property
    def transposed(self) -> list[str]:
        """The names of the tensors that were transposed from `[out, in]` to `[in, out]`."""
        return [name for name in stored_layout(self.plan) if self.plan.is_transposed(name)]


def convert(
    model: str | Path,
    folder: str | Path,
    options: LoadOptions = DEFAULT_OPTIONS,
    *,
    force: bool = False,
    progress: Progress = lambda _done, _total: None,
) -> Conversion:
    """Convert "demo", a hub id, a folder or a file to a new Hugging Face folder, which is written atomically.

    `force` replaces a folder that is empty or holds a GPT-2 checkpoint; `progress` is called with the number of bytes
    written so far and the total.

    Raises DestinationError when the folder cannot be written, and MaxGPT2Error as `load_checkpoint` does.
    """
    target = find_target(folder, force)
    _, config, plan = inspect_checkpoint(model, replace(options, weights="float32"))
    tokenizer = read_tokenizer(plan, options.tokenizer)
    read = {tensor.file for tensor in plan.origin.tensors} | ({tokenizer.folder} if tokenizer.folder else set())
    read |= {adapter.path for adapter in plan.adapters}
    check_disjoint(target, plan.origin.path, sorted(read))
    eos_ids = eos_token_ids(plan, tokenizer)
    files = tokenizer_files(tokenizer, config, eos_ids) | config_files(plan, eos_ids)
    layout = stored_layout(plan)
    sizes = {WEIGHTS: len(header(layout)) + size(layout)} | {name: len(content) for name, content in files.items()}
    check_space(target, sum(sizes.values()))
    with atomic_folder(target, force) as partial:
        write_weights(plan, partial / WEIGHTS, progress, allow_nonfinite=options.allow_nonfinite)
        for name, content in files.items():
            write_synced(partial / name, [content])
    return Conversion(target, plan, sizes)
