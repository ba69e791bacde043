"""Read a checkpoint of any format and write it as a Hugging Face folder."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from max_gpt2.checkpoint import DEFAULT_OPTIONS, LoadOptions, LoadPlan, inspect_checkpoint, read_tokenizer
from max_gpt2.checkpoint.destination import check_apart, check_space, find_target, write_synced, written_whole
from max_gpt2.checkpoint.formats.source import EXACT
from max_gpt2.checkpoint.layout import canonical_shapes
from max_gpt2.checkpoint.load import stored_values
from max_gpt2.config import GPT2Config, read_json
from max_gpt2.tokenizer import END_OF_TEXT, GPT2Tokenizer

#: What is not true of the new folder, such as who wrote it, and other names of the sizes, which could disagree.
_DROPPED = (
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "attn_implementation",
    "auto_map",
    "hidden_size",
    "max_position_embeddings",
    "n_ctx",
    "num_attention_heads",
    "num_hidden_layers",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
)
_TORCH_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def ending_ids(plan: LoadPlan, tokenizer: GPT2Tokenizer) -> list[int]:
    """Return the ids that end a text; a format without a config knows that of `<|endoftext|>` from the tokenizer."""
    config = plan.origin.config
    known = [id_ for id_ in config.eos_token_ids if id_ < config.vocab_size]
    if known or plan.origin.config_json or END_OF_TEXT not in tokenizer.vocab:
        return known
    return [tokenizer.end_of_text]


def config_files(plan: LoadPlan, endings: list[int]) -> dict[str, bytes]:
    """Return the files by name: those of the source, with every field that is still true, or a new `config.json`.

    That is the last one: without it a folder is no checkpoint.
    """
    source = plan.origin.config_json
    ends = {"eos_token_id": endings if len(endings) > 1 else next(iter(endings), None)}
    known = {name: value for name, value in asdict(plan.origin.config).items() if name != "eos_token_ids"}
    known |= {
        "architectures": ["GPT2LMHeadModel"],
        "dtype": _torch_dtype(plan),
        "model_type": "gpt2",
        "tie_word_embeddings": plan.tied,
    }
    values = read_json(source) if source else {"bos_token_id": next(iter(endings), None)}
    files = {}
    if source and (generation := source.with_name("generation_config.json")).is_file():
        files[generation.name] = json_file(_still_true(plan, read_json(generation)) | ends)
    return files | {"config.json": json_file(_still_true(plan, values) | known | ends)}


def _still_true(plan: LoadPlan, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that still apply; ids outside the vocabulary become null."""
    kept = {name: value for name, value in values.items() if name not in _DROPPED}
    ids = range(plan.origin.config.vocab_size)
    strangers = [name for name, value in kept.items() if name.endswith("_token_id") and _is_stranger(value, ids)]
    return kept | dict.fromkeys(strangers)


def _is_stranger(value: object, ids: range) -> bool:
    return isinstance(value, int) and value not in ids


def _torch_dtype(plan: LoadPlan) -> str:
    """Return the dtype that holds all weights exactly, by PyTorch's name."""
    stored = set(plan.read_dtypes.values())
    return _TORCH_NAMES[stored.pop()] if len(stored) == 1 else "float32"


def json_file(values: Mapping[str, Any]) -> bytes:
    """Return a JSON object as a file that is the same whatever the order of its names was."""
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()


#: What a folder may have besides `tokenizer.json`; it is carried over as it is.
_CARRIED = (
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


def tokenizer_files(tokenizer: GPT2Tokenizer, config: GPT2Config, endings: list[int]) -> dict[str, bytes]:
    """Return the files by name: `tokenizer.json`, and what is beside it or can be made from it.

    `endings` are the ids that end a text.
    """
    files = {"tokenizer.json": tokenizer.json.encode()}
    if tokenizer.folder:
        found = [tokenizer.folder / name for name in _CARRIED]
        files |= {path.name: path.read_bytes() for path in found if path.is_file()}
    content = json.loads(tokenizer.json)
    if _is_gpt2s(content) and not {"vocab.json", "merges.txt"} <= files.keys():
        files |= _slow_files(content)
    tokens = {id_: token for token, id_ in tokenizer.vocab.items()}
    usual = END_OF_TEXT if END_OF_TEXT in tokenizer.vocab else None
    ending = next((tokens[id_] for id_ in endings if id_ in tokens), usual)
    return {"tokenizer_config.json": _tokenizer_config(content, ending, config.n_positions)} | files


def _is_gpt2s(content: dict[str, Any]) -> bool:
    """Say whether a vocab and merges are all there is to it, as in GPT-2; some fine-tunes brought their own kind."""
    split = content.get("pre_tokenizer") or {}
    usual = split.get("type") == "ByteLevel" and split.get("use_regex", True)
    return usual and "merges" in content["model"] and not content.get("normalizer")


def _slow_files(content: dict[str, Any]) -> dict[str, bytes]:
    """Return the tokenizer as older programs read it."""
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


def _tokenizer_config(content: dict[str, Any], ending: str | None, n_positions: int) -> bytes:
    """Return the settings; unless they name the special tokens, transformers adds its own behind the vocabulary."""
    gpt2s = _is_gpt2s(content)
    values: dict[str, Any] = dict.fromkeys(("bos_token", "eos_token", "unk_token"), ending)
    values |= {
        "add_prefix_space": gpt2s and bool(content["pre_tokenizer"].get("add_prefix_space")),
        "model_max_length": n_positions,
        # transformers makes a GPT2Tokenizer of the vocab and the merges alone, the other one of the whole file.
        "tokenizer_class": "GPT2Tokenizer" if gpt2s else "PreTrainedTokenizerFast",
    }
    return json_file(values)


#: Called with the bytes that are written and with all there will be.
Progress = Callable[[int, int], object]
#: The names of tensors, in the order of a file, with their dtypes and shapes.
Layout = Mapping[str, tuple[str, tuple[int, ...]]]
#: safetensors stores the wider types first, so that all of them are aligned.
_ORDER = ("F32", "BF16", "F16")


def stored_layout(plan: LoadPlan) -> Layout:
    """Return what the file of a checkpoint is going to hold."""
    shapes = canonical_shapes(plan.origin.config)
    names = sorted(plan.read_dtypes.items(), key=lambda item: (_ORDER.index(item[1]), item[0]))
    return {name: (dtype, shapes[name]) for name, dtype in names}


def size(layout: Layout) -> int:
    """Return how many bytes the tensors have."""
    return sum(_bytes(dtype, shape) for dtype, shape in layout.values())


def header(layout: Layout, start: int = 0) -> bytes:
    """Return what stands before the tensors; these start at a multiple of 8 bytes, or `start` bytes after one."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape) in layout.items():
        end = offset + _bytes(dtype, shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * ((start - len(text)) % 8)  # the length in front of it has 8 bytes
    return len(text).to_bytes(8, "little") + text


def write_weights(plan: LoadPlan, path: Path, progress: Progress, *, allow_nonfinite: bool = False) -> None:
    """Write the weights of a checkpoint; raises CheckpointError, at the end, when they are damaged, and OSError."""
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
    """Write "demo", a hub id, a folder or a file as a new Hugging Face folder, or as nothing at all.

    `force` replaces a folder that is empty or holds a GPT-2 checkpoint; `progress` is called with the number of bytes
    written so far and the total.

    Raises DestinationError when the folder cannot be written, and MaxGPT2Error as `load_checkpoint` does.
    """
    target = find_target(folder, force)
    _, config, plan = inspect_checkpoint(model, options)
    words = read_tokenizer(plan, options.tokenizer)
    read = {tensor.file for tensor in plan.origin.tensors} | ({words.folder} if words.folder else set())
    check_apart(target, plan.origin.path, sorted(read))
    endings = ending_ids(plan, words)
    files = tokenizer_files(words, config, endings) | config_files(plan, endings)
    layout = stored_layout(plan)
    sizes = {WEIGHTS: len(header(layout)) + size(layout)} | {name: len(content) for name, content in files.items()}
    check_space(target, sum(sizes.values()))
    with written_whole(target, force) as partial:
        write_weights(plan, partial / WEIGHTS, progress, allow_nonfinite=options.allow_nonfinite)
        for name, content in files.items():
            write_synced(partial / name, [content])
    return Conversion(target, plan, sizes)
