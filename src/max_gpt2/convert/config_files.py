"""`config.json` and `generation_config.json` of a converted checkpoint."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from max_gpt2.checkpoint import LoadPlan
from max_gpt2.config import read_json
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
    """Return the fields without those that are not true any more; ids that the model does not have become null."""
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
