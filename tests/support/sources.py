"""The same tiny model in every supported format, and the weights expected after a conversion."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType
from safetensors.torch import load_file, save_file
from transformers.pytorch_utils import Conv1D

from fixtures.checkpoints import (
    FLAGS,
    UNEVEN,
    Tensors,
    reference_model,
    save_sharded_pickle,
    write_checkpoint,
    write_tokenizer,
)
from fixtures.formats import EPSILON, NanoGPT, linear_state, nanogpt_content, write_gguf, write_llmc
from max_gpt2.checkpoint import DEFAULT_OPTIONS, LoadOptions
from max_gpt2.config import GPT2Config
from tools import make_checkpoint

State = dict[str, torch.Tensor]
WTE = "transformer.wte.weight"
HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Made:
    """A source checkpoint, the config and weights expected after its conversion, and the loading options."""

    path: Path
    config: dict[str, Any]
    state: State
    options: LoadOptions = DEFAULT_OPTIONS


def bits(state: State) -> dict[str, tuple[str, bytes]]:
    """Return the dtype and bytes of each tensor, to compare bitwise."""
    return {
        name: (str(value.dtype), value.contiguous().view(torch.uint8).numpy().tobytes())
        for name, value in state.items()
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def conv1d_names(model: Any) -> set[str]:
    return {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Conv1D)}


def tied(state: State) -> State:
    return {name: value.contiguous() for name, value in state.items() if name != HEAD}


def from_linear(weights: Tensors, dtype: torch.dtype = torch.float32) -> State:
    """Return weights in the layout of PyTorch's Linear as transformers stores them, with Conv1D weights."""
    transposed = conv1d_names(reference_model())
    layers = {name: torch.tensor(value.T.copy() if name in transposed else value) for name, value in weights.items()}
    return {name: value.to(dtype) for name, value in tied(layers).items()}


def hugging_face(folder: Path, **changes: Any) -> Made:
    model = reference_model(**changes)
    path = write_checkpoint(folder / "source", **changes)
    state = dict(model.state_dict()) if changes.get("tie_word_embeddings") is False else tied(model.state_dict())
    return Made(path, UNEVEN | changes, state)


def all_flags(folder: Path) -> Made:
    return hugging_face(folder, **FLAGS)


def untied(folder: Path) -> Made:
    return hugging_face(folder, tie_word_embeddings=False)


def untied_despite_the_config(folder: Path) -> Made:
    made = untied(folder)
    (made.path / "config.json").write_text(
        (made.path / "config.json").read_text().replace('word_embeddings": false', 'word_embeddings": true')
    )
    return made


def sharded(folder: Path) -> Made:
    made = hugging_face(folder)
    (made.path / "model.safetensors").unlink()
    reference_model().save_pretrained(made.path, max_shard_size="40KB")
    return made


def edited(folder: Path, edit: Callable[[State], State]) -> Made:
    """Return a checkpoint with edited weights."""
    made = hugging_face(folder)
    state = edit(made.state)
    save_file(state, made.path / "model.safetensors", metadata={"format": "pt"})
    return Made(made.path, made.config, state)


def half(folder: Path) -> Made:
    return edited(folder, lambda state: {name: value.half() for name, value in state.items()})


def bfloat16(folder: Path) -> Made:
    return edited(folder, lambda state: {name: value.bfloat16() for name, value in state.items()})


def mixed(folder: Path) -> Made:
    kinds = (torch.float16, torch.float32, torch.bfloat16)
    return edited(folder, lambda state: {name: one.to(kinds[i % 3]) for i, (name, one) in enumerate(state.items())})


def with_tensors_of_other_programs(folder: Path) -> Made:
    """Add prefixes of other programs, masks, the head of another task and a copy of the tied head."""
    made = hugging_face(folder)
    stored = {f"module.{name.removeprefix('transformer.')}": value for name, value in made.state.items()}
    extras = {
        "h.0.attn.bias": torch.ones(1, 1, 67, 67).tril().bool(),
        "h.0.attn.masked_bias": torch.tensor(-1e4),
        "score.weight": torch.ones(2, 24),
        HEAD: made.state[WTE].clone(),
    }
    save_file(stored | extras, made.path / "model.safetensors")
    return made


def published(folder: Path) -> Made:
    """Write the layout of OpenAI's weights on the hub: no prefix, with masks and unaligned data."""
    sizes = GPT2Config(vocab_size=4096, n_positions=47, n_embd=24, n_layer=2, n_head=3, eos_token_ids=(4095,))
    make_checkpoint.write_checkpoint(sizes, folder / "source")
    stored = zip(make_checkpoint.stored_layout(sizes), make_checkpoint.values(sizes, 0), strict=True)
    state = {f"transformer.{name}": torch.tensor(value) for name, value in stored if not name.endswith(".attn.bias")}
    config = {"vocab_size": 4096, "n_positions": 47, "n_embd": 24, "n_layer": 2, "n_head": 3}
    return Made(folder / "source", config, state)


def pickled(folder: Path, dtype: torch.dtype = torch.float32, **options: Any) -> Made:
    made = hugging_face(folder)
    state = {name: value.to(dtype) for name, value in made.state.items()}
    (made.path / "model.safetensors").unlink()
    torch.save(state | {HEAD: state[WTE]}, made.path / "pytorch_model.bin", **options)
    return Made(made.path, made.config, state, LoadOptions(allow_pickle=True))


def pickled_bfloat16(folder: Path) -> Made:
    return pickled(folder, torch.bfloat16)


def pickled_half_legacy(folder: Path) -> Made:
    return pickled(folder, torch.float16, _use_new_zipfile_serialization=False)


def pickled_shards(folder: Path) -> Made:
    made = hugging_face(folder)
    save_sharded_pickle(made.path, load_file(made.path / "model.safetensors"))
    (made.path / "model.safetensors").unlink()
    return Made(made.path, made.config, made.state, LoadOptions(allow_pickle=True))


def nanogpt(folder: Path, bias: bool = True, prefix: str = "") -> Made:
    model = NanoGPT(bias)
    torch.save(nanogpt_content(model, bias, prefix), folder / "ckpt.pt")
    write_tokenizer(folder)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    zeros = {name: np.zeros_like(value.numpy()) for name, value in reference_model().state_dict().items()}
    config = UNEVEN | {"layer_norm_epsilon": EPSILON, "activation_function": "gelu"}
    return Made(folder / "ckpt.pt", config, from_linear(zeros | weights), LoadOptions(allow_pickle=True))


def nanogpt_without_biases(folder: Path) -> Made:
    return nanogpt(folder, bias=False)


def nanogpt_half_except_layer_norms(folder: Path) -> Made:
    """A zero-filled bias gets the dtype of its weight."""
    made = nanogpt(folder, bias=False)

    def halved(name: str, value: torch.Tensor) -> torch.Tensor:
        return value if ".ln_" in name else value.half()

    content = torch.load(made.path)
    content["model"] = {name: halved(name, value) for name, value in content["model"].items()}
    torch.save(content, made.path)
    state = {name: halved(name, value) for name, value in made.state.items()}
    return Made(made.path, made.config, state, made.options)


def nanogpt_compiled(folder: Path) -> Made:
    return nanogpt(folder, prefix="_orig_mod.")


def llmc(folder: Path, version: int = 3, dtype: torch.dtype = torch.float32) -> Made:
    write_tokenizer(folder)
    file = write_llmc(folder / "gpt2.bin", linear_state(), version)
    return Made(file, UNEVEN | {"layer_norm_epsilon": EPSILON}, from_linear(linear_state(), dtype))


def llmc_bfloat16(folder: Path) -> Made:
    return llmc(folder, 5, torch.bfloat16)


def from_gguf(folder: Path, kind: GGMLQuantizationType, dtype: torch.dtype, **changes: Any) -> Made:
    """Store matrices as `kind`, expected as `dtype` after conversion; vectors are float32."""
    weights = linear_state(**changes)
    stored = {
        name: gguf.quants.dequantize(gguf.quants.quantize(value, kind), kind) if value.ndim == 2 else value
        for name, value in weights.items()
    }
    state = {name: one.to(dtype) if one.ndim == 2 else one for name, one in from_linear(stored).items()}
    file = write_gguf(folder / "gpt2.gguf", weights, quantised=kind)
    return Made(file, UNEVEN | changes | {"layer_norm_epsilon": EPSILON}, state)


def gguf_float32(folder: Path) -> Made:
    return from_gguf(folder, GGMLQuantizationType.F32, torch.float32)


def gguf_half(folder: Path) -> Made:
    return from_gguf(folder, GGMLQuantizationType.F16, torch.float16)


def gguf_bfloat16(folder: Path) -> Made:
    return from_gguf(folder, GGMLQuantizationType.BF16, torch.bfloat16)


def gguf_quantised(folder: Path) -> Made:
    return from_gguf(folder, GGMLQuantizationType.Q8_0, torch.float32, n_embd=96, n_layer=2)


SOURCES: list[Callable[[Path], Made]] = [
    hugging_face,
    all_flags,
    untied,
    untied_despite_the_config,
    sharded,
    half,
    bfloat16,
    mixed,
    with_tensors_of_other_programs,
    published,
    pickled,
    pickled_bfloat16,
    pickled_half_legacy,
    pickled_shards,
    nanogpt,
    nanogpt_without_biases,
    nanogpt_half_except_layer_norms,
    nanogpt_compiled,
    llmc,
    llmc_bfloat16,
    gguf_float32,
    gguf_half,
    gguf_bfloat16,
    gguf_quantised,
]


def expected_model(made: Made) -> Any:
    """Return transformers' model with the weights that the source was made from, in float32."""
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**(made.config | {"tie_word_embeddings": False})))
    state = {HEAD: made.state[WTE]} | made.state
    model.load_state_dict({name: value.float() for name, value in state.items()}, strict=True)
    return model.eval()
