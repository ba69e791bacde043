"""Other programs' formats."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import torch
from torch import nn

from tests.checkpoints import reference_model, save_sharded_pickle, write_tokenizer
from tests.other_formats import (
    EPSILON,
    NanoGPT,
    conv1d_weights,
    linear_layout,
    nanogpt_content,
    write_gguf,
    write_llmc,
)
from tests.zoo.fixture import Build, Group, Loads, fixture, saved
from tests.zoo.layouts import EQUAL


def pickled(write: Callable[[Path, dict[str, torch.Tensor]], None]) -> Build:
    def build(folder: Path) -> nn.Module:
        model = saved(folder)
        (folder / "model.safetensors").unlink()
        write(folder, model.state_dict())
        return model

    return build


fixture(Group.FORMATS, "pytorch_model.bin", loads=EQUAL, allow_pickle=True)(
    pickled(lambda folder, state: torch.save(state, folder / "pytorch_model.bin"))
)
fixture(Group.FORMATS, "pytorch_model.bin in shards", loads=EQUAL, allow_pickle=True)(pickled(save_sharded_pickle))


def nanogpt(bias: bool, prefix: str = "") -> Build:
    def build(folder: Path) -> nn.Module:
        model = NanoGPT(bias)
        torch.save(nanogpt_content(model, bias, prefix), folder / "ckpt.pt")
        write_tokenizer(folder)
        return model

    return build


NANOGPT = replace(EQUAL, by_transformers=False)
NO_BIASES = replace(NANOGPT, zeros=3 * 6 + 1)
fixture(Group.FORMATS, "nanoGPT with biases", loads=NANOGPT, allow_pickle=True)(nanogpt(bias=True))
fixture(Group.FORMATS, "nanoGPT without biases", loads=NO_BIASES, allow_pickle=True)(nanogpt(bias=False))
fixture(Group.FORMATS, "nanoGPT saved compiled: _orig_mod.", loads=NANOGPT, allow_pickle=True)(
    nanogpt(True, "_orig_mod.")
)


def llmc(version: int, dtype: torch.dtype) -> Build:
    def build(folder: Path) -> nn.Module:
        model = NanoGPT(bias=True, gelu="tanh").to(dtype).float()
        write_llmc(folder / "gpt2.bin", linear_layout(model), version)
        write_tokenizer(folder)
        return model

    return build


PADDING = Loads(skipped={"rows that pad the vocabulary": 1}, by_transformers=False)
HALF = replace(PADDING, dtypes=("BF16",))
fixture(Group.FORMATS, "llm.c, version 3 (float32)", loads=PADDING)(llmc(3, torch.float32))
fixture(Group.FORMATS, "llm.c, version 5 (bfloat16)", loads=HALF)(llmc(5, torch.bfloat16))


def gguf_of(kind: gguf.GGMLQuantizationType, **changes: Any) -> Build:
    def build(folder: Path) -> nn.Module:
        """Write transformers' model, and give it the values that the gguf package makes of the stored ones."""
        model = reference_model(layer_norm_epsilon=EPSILON, **changes)
        weights, conv1d = linear_layout(model), conv1d_weights(model)
        write_gguf(folder / "gpt2.gguf", weights, n_head=model.config.n_head, quantised=kind)
        for name, value in weights.items():
            if value.ndim == 2 and name != "lm_head.weight":  # which is wte
                stored = torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(value, kind), kind).copy())
                model.state_dict()[name].copy_(stored.T if name in conv1d else stored)
        return model

    return build


for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0"):
    changes = {"n_embd": 32, "n_head": 4} if name.startswith("Q") else {}  # quantised rows are multiples of 32
    loads = Loads(dtypes=tuple(sorted({"F32", name})), by_transformers=False)
    fixture(Group.FORMATS, f"GGUF, {name}", loads=loads)(gguf_of(gguf.GGMLQuantizationType[name], **changes))


def foreign(name: str, content: bytes) -> Build:
    def build(folder: Path) -> None:
        saved(folder)
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(content)

    return build


fixture(Group.FORMATS, "TensorFlow, as OpenAI published it")(foreign("model.ckpt.index", b"\0"))
fixture(Group.FORMATS, "TensorFlow's .h5")(foreign("tf_model.h5", b"\x89HDF\r\n\x1a\n"))
fixture(Group.FORMATS, "Flax' .msgpack")(foreign("flax_model.msgpack", b"\x81\xabtransformer\x84\xa1h"))
fixture(Group.FORMATS, "ONNX")(foreign("model.onnx", b"\x08\x07"))
