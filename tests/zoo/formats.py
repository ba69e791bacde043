"""Other programs' formats but GGUF."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.checkpoints import save_sharded_pickle, write_tokenizer
from tests.other_formats import NanoGPT, linear_layout, nanogpt_content, write_llmc
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
fixture(Group.FORMATS, "pytorch_model.bin of a PyTorch before 1.6", loads=EQUAL, allow_pickle=True)(
    pickled(lambda folder, state: torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False))
)


def nanogpt(bias: bool, prefix: str = "", **changes: Any) -> Build:
    def build(folder: Path) -> nn.Module:
        model = NanoGPT(bias, **changes)
        torch.save(nanogpt_content(model, bias, prefix), folder / "ckpt.pt")
        write_tokenizer(folder)
        return model

    return build


NANOGPT = replace(EQUAL, by_transformers=False)
NO_BIASES = replace(NANOGPT, zeros=3 * 6 + 1)
fixture(Group.FORMATS, "nanoGPT with biases", loads=NANOGPT, allow_pickle=True)(nanogpt(bias=True))
fixture(Group.FORMATS, "nanoGPT without biases", loads=NO_BIASES, allow_pickle=True)(nanogpt(bias=False))
fixture(Group.FORMATS, "nanoGPT from scratch: no biases, vocabulary 50304", loads=NO_BIASES, allow_pickle=True)(
    nanogpt(bias=False, vocab_size=50304)
)
fixture(Group.FORMATS, "nanoGPT saved compiled: _orig_mod.", loads=NANOGPT, allow_pickle=True)(
    nanogpt(True, "_orig_mod.")
)


def llmc(version: int, dtype: torch.dtype, tokenizer: str = "") -> Build:
    def build(folder: Path) -> nn.Module:
        model = NanoGPT(bias=True, gelu="tanh").to(dtype).float()
        write_llmc(folder / "gpt2.bin", linear_layout(model), version)
        (folder / tokenizer).mkdir(exist_ok=True)
        write_tokenizer(folder / tokenizer)
        return model

    return build


PADDING = Loads(skipped={"rows that pad the vocabulary": 1}, by_transformers=False)
HALF = replace(PADDING, dtypes=("BF16",))
fixture(Group.FORMATS, "llm.c, version 3 (float32)", loads=PADDING)(llmc(3, torch.float32))
fixture(Group.FORMATS, "llm.c, version 5 (bfloat16)", loads=HALF)(llmc(5, torch.bfloat16))
fixture(Group.FORMATS, "llm.c, and --tokenizer with a folder", loads=PADDING, tokenizer="other")(
    llmc(3, torch.float32, "other")
)


@fixture(Group.FORMATS, "llm.c, version 1")
def old_llmc(folder: Path) -> None:
    llmc(1, torch.float32)(folder)


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
