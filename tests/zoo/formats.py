"""Other programs' formats."""

from pathlib import Path

import gguf
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tests.checkpoints import Tensors, reference_model, save_sharded_pickle, write_tokenizer
from tests.other_formats import EPSILON, NanoGPT, linear_state, nanogpt_content, write_gguf, write_llmc
from tests.zoo.fixture import Build, Group, Logits, computed_by, fixture, saved


def pickled(folder: Path) -> tuple[Logits, dict[str, torch.Tensor]]:
    model = reference_model()
    logits = saved(folder, model)
    (folder / "model.safetensors").unlink()
    return logits, model.state_dict()


@fixture(Group.FORMATS, "pytorch_model.bin", allow_pickle=True)
def single_pickle(folder: Path) -> Logits:
    logits, state = pickled(folder)
    torch.save(state, folder / "pytorch_model.bin")
    return logits


@fixture(Group.FORMATS, "pytorch_model.bin in shards", allow_pickle=True)
def sharded_pickle(folder: Path) -> Logits:
    logits, state = pickled(folder)
    save_sharded_pickle(folder, state)
    return logits


def nanogpt(bias: bool, prefix: str = "") -> Build:
    def build(folder: Path) -> Logits:
        model = NanoGPT(bias)
        torch.save(nanogpt_content(model, bias, prefix), folder / "ckpt.pt")
        write_tokenizer(folder)

        def logits(ids: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return model(torch.from_numpy(ids)).numpy()

        return logits

    return build


fixture(Group.FORMATS, "nanoGPT with biases", allow_pickle=True)(nanogpt(bias=True))
fixture(Group.FORMATS, "nanoGPT without biases", allow_pickle=True)(nanogpt(bias=False))
fixture(Group.FORMATS, "nanoGPT saved compiled: _orig_mod.", allow_pickle=True)(nanogpt(bias=True, prefix="_orig_mod."))


class LlmC:
    """GPT-2 as llm.c computes it, from weights by their names: Linear layers, tanh GELU, epsilon 1e-5, a tied head."""

    def __init__(self, weights: Tensors, dtype: torch.dtype = torch.float32) -> None:
        self._weights = {name: torch.from_numpy(value).to(dtype).float() for name, value in weights.items()}

    def _at(self, name: str) -> torch.Tensor:
        return self._weights[f"transformer.{name}"]

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self._at(f"{name}.weight"), self._at(f"{name}.bias"))

    def _norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self._at(f"{name}.weight"), self._at(f"{name}.bias"), EPSILON)

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        x = self._at("wte.weight")[torch.from_numpy(ids)] + self._at("wpe.weight")[: ids.shape[1]]
        for layer in range(3):
            qkv = self._linear(f"h.{layer}.attn.c_attn", self._norm(f"h.{layer}.ln_1", x))
            query, key, value = (part.unflatten(-1, (3, 8)).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).flatten(-2)
            x = x + self._linear(f"h.{layer}.attn.c_proj", mixed)
            inner = nn.GELU("tanh")(self._linear(f"h.{layer}.mlp.c_fc", self._norm(f"h.{layer}.ln_2", x)))
            x = x + self._linear(f"h.{layer}.mlp.c_proj", inner)
        return (self._norm("ln_f", x) @ self._at("wte.weight").T).numpy()


def llmc(version: int, dtype: torch.dtype) -> Build:
    def build(folder: Path) -> Logits:
        write_tokenizer(folder)
        weights = linear_state()
        write_llmc(folder / "gpt2.bin", weights, version)
        return LlmC(weights, dtype)

    return build


fixture(Group.FORMATS, "llm.c, version 3 (float32)")(llmc(3, torch.float32))
fixture(Group.FORMATS, "llm.c, version 5 (bfloat16)")(llmc(5, torch.bfloat16))


def gguf_of(kind: gguf.GGMLQuantizationType, width: int = 24) -> Build:
    def build(folder: Path) -> Logits:
        changes = {"n_embd": width, "n_head": 4} if width != 24 else {}
        weights = linear_state(**changes)
        write_gguf(folder / "gpt2.gguf", weights, n_head=changes.get("n_head", 3), quantised=kind)
        model = reference_model(layer_norm_epsilon=EPSILON, **changes)
        state = model.state_dict()
        for name, value in weights.items():
            if value.ndim == 2:
                stored = gguf.quants.dequantize(gguf.quants.quantize(value, kind), kind).astype(np.float32)
                transposed = state[name].shape != stored.shape or name.endswith("attn.c_proj.weight")
                state[name] = torch.from_numpy(stored.T.copy() if transposed else stored)
        model.load_state_dict(state)
        return computed_by(model)

    return build


for kind in ("F32", "F16", "BF16"):
    fixture(Group.FORMATS, f"GGUF, {kind}")(gguf_of(gguf.GGMLQuantizationType[kind]))
for kind in ("Q8_0", "Q4_0"):  # their rows are multiples of 32
    fixture(Group.FORMATS, f"GGUF, {kind}")(gguf_of(gguf.GGMLQuantizationType[kind], width=32))


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
