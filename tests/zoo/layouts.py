"""How the same weights are stored in one file: prefixes, buffers, heads, dtypes, sizes."""

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from tests.checkpoints import UNEVEN, edit_config, edit_weights, reference_model
from tests.zoo.fixture import Build, Group, Loads, fixture, saved

State = dict[str, torch.Tensor]


def edited(folder: Path, edit: Callable[[State], State], model: Any = None) -> nn.Module:
    """Write a model with other names or tensors in the file; what it computes stays."""
    model = saved(folder, model)
    path = folder / "model.safetensors"
    state = {name: value.contiguous() for name, value in edit(load_file(path)).items()}
    save_file(state, path, metadata={"format": "pt"})
    return model


def bare(name: str) -> str:
    return name.removeprefix("transformer.")


def with_masks(
    state: State,
    dtype: torch.dtype = torch.float32,
    names: tuple[str, ...] = ("attn.bias",),
    prefix: str = "transformer.",
) -> State:
    mask = torch.ones(1, 1, 67, 67).tril().to(dtype)
    values = {"attn.bias": mask, "attn.masked_bias": torch.tensor(-1e4), "crossattention.bias": mask}
    return state | {f"{prefix}h.{layer}.{name}": values[name].clone() for layer in range(3) for name in names}


BOTH_MASKS = ("attn.bias", "attn.masked_bias")
ONE_MASK, TWO_MASKS = Loads(skipped={"mask buffer": 3}), Loads(skipped={"mask buffer": 6})
EQUAL = Loads("stored and equal to wte, so tied", {"equal to wte": 1})
KEPT = Loads("stored and not equal to wte, so kept")


@fixture(Group.KNOWN, "openai-community/gpt2 and its sisters: no prefix, mask buffers, no head", loads=ONE_MASK)
def gpt2(folder: Path) -> nn.Module:
    model = edited(folder, lambda state: with_masks({bare(name): value for name, value in state.items()}, prefix=""))
    path = folder / "model.safetensors"
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].rstrip() + b"   "
    header += b" " * (3 - len(header) % 4)  # the published file's values start at a byte that is odd
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
    return model


@fixture(Group.KNOWN, "distilgpt2: prefix, mask buffers", loads=ONE_MASK)
def distilgpt2(folder: Path) -> nn.Module:
    return edited(folder, with_masks)


@fixture(
    Group.KNOWN,
    "DialoGPT: prefix, both buffers, a stored head, float16",
    loads=replace(EQUAL, skipped={"mask buffer": 6, "equal to wte": 1}, dtypes=("F16",)),
)
def dialogpt(folder: Path) -> nn.Module:
    def edit(state: State) -> State:
        return with_masks(with_head(state), torch.float16, BOTH_MASKS)

    half = reference_model().half()
    edited(folder, edit, half)
    return half.float()


@fixture(Group.KNOWN, "mGPT: prefix and masked_bias", loads=TWO_MASKS)
def mgpt(folder: Path) -> nn.Module:
    return edited(folder, lambda state: with_masks(state, names=BOTH_MASKS))


@fixture(Group.KNOWN, "Cerebras-GPT: context 2048, vocabulary 50257")
def cerebras(folder: Path) -> nn.Module:
    return saved(folder, reference_model(n_positions=2048, vocab_size=50257))


@fixture(Group.KNOWN, "mistral and codeparrot: scale_attn_by_inverse_layer_idx, reorder_and_upcast_attn")
def mistral(folder: Path) -> nn.Module:
    return saved(folder, reference_model(scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True))


def prefixed(prefix: str) -> Build:
    return lambda folder: edited(folder, lambda state: {prefix + bare(name): value for name, value in state.items()})


for prefix in ("", "transformer.", "module.transformer.", "_orig_mod.transformer."):
    loads = Loads(by_transformers=prefix in ("", "transformer."))
    fixture(Group.LAYOUT, f'prefix "{prefix}"', loads=loads)(prefixed(prefix))


@fixture(Group.LAYOUT, "two prefixes mixed: none and transformer.")
def mixed_two(folder: Path) -> nn.Module:
    return edited(folder, lambda state: {bare(n) if n.endswith("bias") else n: value for n, value in state.items()})


@fixture(Group.LAYOUT, "all prefixes mixed", loads=Loads(by_transformers=False))
def mixed(folder: Path) -> nn.Module:
    prefixes = cycle(("", "transformer.", "module.transformer.", "_orig_mod.", "_orig_mod.module."))
    return edited(folder, lambda state: {next(prefixes) + bare(name): value for name, value in state.items()})


def masked(dtype: torch.dtype) -> Build:
    names = (*BOTH_MASKS, "crossattention.bias")
    return lambda folder: edited(folder, lambda state: with_masks(state, dtype, names))


for dtype in (torch.float32, torch.bool, torch.uint8):
    row = f"mask buffers of {str(dtype).removeprefix('torch.')}"
    fixture(Group.LAYOUT, row, loads=Loads(skipped={"mask buffer": 9}))(masked(dtype))


def with_head(state: State) -> State:
    return state | {"lm_head.weight": state["transformer.wte.weight"].clone()}


@fixture(Group.LAYOUT, "a stored head that equals wte", loads=EQUAL)
def equal_head(folder: Path) -> nn.Module:
    return edited(folder, with_head)


@fixture(Group.LAYOUT, "a stored head that differs from wte", loads=KEPT)
def other_head(folder: Path) -> nn.Module:
    model = saved(folder, reference_model(tie_word_embeddings=False))
    edit_config(folder, tie_word_embeddings=True)
    return model


@fixture(Group.LAYOUT, "tie_word_embeddings false, a stored head", loads=KEPT)
def untied(folder: Path) -> nn.Module:
    return saved(folder, reference_model(tie_word_embeddings=False))


@fixture(Group.LAYOUT, "tie_word_embeddings false, no head")
def missing_head(folder: Path) -> None:
    saved(folder)
    edit_config(folder, tie_word_embeddings=False)


def in_dtype(dtype: torch.dtype) -> Build:
    def build(folder: Path) -> nn.Module:
        model = reference_model().to(dtype)
        saved(folder, model)
        return model.float()

    return build


for dtype, stored in ((torch.float16, "F16"), (torch.bfloat16, "BF16")):
    row = f"stored as {str(dtype).removeprefix('torch.')}"
    fixture(Group.LAYOUT, row, loads=Loads(dtypes=(stored,)))(in_dtype(dtype))


def refused_dtype(dtype: torch.dtype) -> Build:
    def build(folder: Path) -> None:
        bias = "transformer.ln_f.bias"
        edited(folder, lambda state: state | {bias: state[bias].to(dtype)})

    return build


for dtype in (torch.int8, torch.float64):
    fixture(Group.LAYOUT, f"a tensor stored as {str(dtype).removeprefix('torch.')}")(refused_dtype(dtype))


def other_head_of(architecture: type[transformers.PreTrainedModel]) -> Build:
    def build(folder: Path) -> nn.Module:
        model, other = reference_model(), architecture(transformers.GPT2Config(**UNEVEN))
        other.get_submodule("transformer").load_state_dict(model.transformer.state_dict())
        saved(folder, other)
        return model

    return build


for architecture, tensors in (
    (transformers.GPT2ForSequenceClassification, 1),
    (transformers.GPT2ForTokenClassification, 2),
    (transformers.GPT2ForQuestionAnswering, 2),
    (transformers.GPT2DoubleHeadsModel, 2),
):
    row = f"the head of a {architecture.__name__}"
    fixture(Group.LAYOUT, row, loads=Loads(skipped={"head of another task": tensors}))(other_head_of(architecture))


@fixture(Group.LAYOUT, "a vocabulary of 311 for a tokenizer of 300")
def padded_vocabulary(folder: Path) -> nn.Module:
    return saved(folder)


@fixture(Group.LAYOUT, "a vocabulary that was enlarged by six tokens")
def resized_vocabulary(folder: Path) -> nn.Module:
    model = reference_model()
    model.resize_token_embeddings(317)
    return saved(folder, model)


@fixture(Group.LAYOUT, "a config that says another vocabulary than wte has")
def disagreeing_vocabulary(folder: Path) -> None:
    saved(folder)
    edit_config(folder, vocab_size=300)


@fixture(Group.LAYOUT, "an n_ctx that disagrees with n_positions, which counts")
def disagreeing_context(folder: Path) -> nn.Module:
    model = saved(folder)
    edit_config(folder, n_ctx=5)
    return model


@fixture(Group.LAYOUT, "an n_positions that disagrees with wpe")
def disagreeing_positions(folder: Path) -> None:
    saved(folder)
    edit_config(folder, n_positions=64)


@fixture(Group.LAYOUT, "a c_proj that was transposed by somebody, not square")
def transposed(folder: Path) -> None:
    name = "transformer.h.1.mlp.c_proj.weight"
    saved(folder)
    edit_weights(folder, lambda tensors: tensors.update({name: np.ascontiguousarray(tensors[name].T)}))
