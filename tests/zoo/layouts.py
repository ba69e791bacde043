"""How the same weights are stored: prefixes, buffers, heads, dtypes, shards."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from tests.checkpoints import edit_config, edit_weights, reference_model
from tests.zoo.fixture import Build, Group, Logits, computed_by, fixture, saved

State = dict[str, torch.Tensor]


def edited(folder: Path, edit: Callable[[State], State], model: Any = None) -> Logits:
    """Write a model with other names or tensors in the file; what it computes stays."""
    logits = saved(folder, model)
    path = folder / "model.safetensors"
    state = {name: value.contiguous() for name, value in edit(load_file(path)).items()}
    save_file(state, path, metadata={"format": "pt"})
    return logits


def bare(name: str) -> str:
    return name.removeprefix("transformer.")


def with_masks(state: State, dtype: torch.dtype = torch.float32, masked_bias: bool = False, prefix: str = "") -> State:
    mask = torch.ones(1, 1, 67, 67).tril().to(dtype)
    masks = {f"{prefix}h.{layer}.attn.bias": mask.clone() for layer in range(3)}
    if masked_bias:
        masks |= {f"{prefix}h.{layer}.attn.masked_bias": torch.tensor(-1e4) for layer in range(3)}
    return state | masks


@fixture(Group.KNOWN, "openai-community/gpt2 and its sisters: no prefix, mask buffers, no head")
def gpt2(folder: Path) -> Logits:
    logits = edited(folder, lambda state: with_masks({bare(name): value for name, value in state.items()}))
    path = folder / "model.safetensors"
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].rstrip() + b"   "
    header += b" " * (3 - len(header) % 4)  # the published file's values start at a byte that is odd
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
    return logits


@fixture(Group.KNOWN, "distilgpt2: prefix, mask buffers")
def distilgpt2(folder: Path) -> Logits:
    return edited(folder, lambda state: with_masks(state, prefix="transformer."))


@fixture(Group.KNOWN, "DialoGPT: prefix, both buffers, a stored head, float16")
def dialogpt(folder: Path) -> Logits:
    def edit(state: State) -> State:
        head = state["transformer.wte.weight"].clone()
        return with_masks(state | {"lm_head.weight": head}, torch.float16, masked_bias=True, prefix="transformer.")

    half = reference_model().half()
    edited(folder, edit, half)
    return computed_by(half.float())


@fixture(Group.KNOWN, "mGPT: prefix and masked_bias")
def mgpt(folder: Path) -> Logits:
    return edited(folder, lambda state: with_masks(state, masked_bias=True, prefix="transformer."))


@fixture(Group.KNOWN, "Cerebras-GPT: context 2048, vocabulary 50257")
def cerebras(folder: Path) -> Logits:
    return saved(folder, reference_model(n_positions=2048, vocab_size=50257))


@fixture(Group.KNOWN, "mistral and codeparrot: scale_attn_by_inverse_layer_idx, reorder_and_upcast_attn")
def mistral(folder: Path) -> Logits:
    return saved(folder, reference_model(scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True))


def prefixed(prefix: str) -> Build:
    return lambda folder: edited(folder, lambda state: {prefix + bare(name): value for name, value in state.items()})


for prefix in ("", "transformer.", "module.transformer.", "_orig_mod.transformer."):
    fixture(Group.LAYOUT, f'prefix "{prefix}"')(prefixed(prefix))


@fixture(Group.LAYOUT, "prefixes mixed")
def mixed(folder: Path) -> Logits:
    return edited(folder, lambda state: {bare(n) if n.endswith("bias") else n: value for n, value in state.items()})


def masked(dtype: torch.dtype) -> Build:
    return lambda folder: edited(folder, lambda state: with_masks(state, dtype, prefix="transformer."))


for dtype in (torch.bool, torch.uint8):
    fixture(Group.LAYOUT, f"mask buffers of {str(dtype).removeprefix('torch.')}")(masked(dtype))


@fixture(Group.LAYOUT, "a stored head that equals wte")
def equal_head(folder: Path) -> Logits:
    return edited(folder, lambda state: state | {"lm_head.weight": state["transformer.wte.weight"].clone()})


@fixture(Group.LAYOUT, "a stored head that differs from wte")
def other_head(folder: Path) -> Logits:
    model = reference_model(tie_word_embeddings=False)
    logits = saved(folder, model)
    edit_config(folder, tie_word_embeddings=True)
    return logits


@fixture(Group.LAYOUT, "tie_word_embeddings false, a stored head")
def untied(folder: Path) -> Logits:
    return saved(folder, reference_model(tie_word_embeddings=False))


@fixture(Group.LAYOUT, "tie_word_embeddings false, no head")
def missing_head(folder: Path) -> None:
    saved(folder)
    edit_config(folder, tie_word_embeddings=False)


def in_dtype(dtype: torch.dtype) -> Build:
    def build(folder: Path) -> Logits:
        model = reference_model().to(dtype)
        saved(folder, model)
        return computed_by(model.float())

    return build


for dtype in (torch.float16, torch.bfloat16):
    fixture(Group.LAYOUT, f"stored as {str(dtype).removeprefix('torch.')}")(in_dtype(dtype))


def refused_dtype(dtype: torch.dtype) -> Build:
    def build(folder: Path) -> None:
        bias = "transformer.ln_f.bias"
        edited(folder, lambda state: state | {bias: state[bias].to(dtype)})

    return build


for dtype in (torch.int8, torch.float64):
    fixture(Group.LAYOUT, f"a tensor stored as {str(dtype).removeprefix('torch.')}")(refused_dtype(dtype))


@fixture(Group.LAYOUT, "heads of other tasks")
def other_heads(folder: Path) -> Logits:
    names = ("score.weight", "classifier.weight", "qa_outputs.bias", "multiple_choice_head.summary.weight")
    return edited(folder, lambda state: state | {name: torch.ones(2, 24) for name in names})


@fixture(Group.LAYOUT, "sharded")
def sharded(folder: Path) -> Logits:
    model = reference_model()
    logits = saved(folder, model)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 1
    return logits


def shard_named(name: str) -> Build:
    def build(folder: Path) -> None:
        sharded(folder)
        index = folder / "model.safetensors.index.json"
        values = json.loads(index.read_text())
        values["weight_map"]["transformer.wpe.weight"] = name
        index.write_text(json.dumps(values))

    return build


for name in ("../model.safetensors", "/etc/model.safetensors"):
    fixture(Group.LAYOUT, f"a shard named {name}")(shard_named(name))


@fixture(Group.LAYOUT, "a vocabulary of 311 for a tokenizer of 300")
def padded_vocabulary(folder: Path) -> Logits:
    return saved(folder)


@fixture(Group.LAYOUT, "a config that says another vocabulary than wte has")
def disagreeing_vocabulary(folder: Path) -> None:
    saved(folder)
    edit_config(folder, vocab_size=300)


@fixture(Group.LAYOUT, "an n_ctx that disagrees with n_positions, which counts")
def disagreeing_context(folder: Path) -> Logits:
    logits = saved(folder)
    edit_config(folder, n_ctx=5)
    return logits


@fixture(Group.LAYOUT, "a c_proj that was transposed by somebody, not square")
def transposed(folder: Path) -> None:
    name = "transformer.h.1.mlp.c_proj.weight"
    saved(folder)
    edit_weights(folder, lambda tensors: tensors.update({name: np.ascontiguousarray(tensors[name].T)}))
