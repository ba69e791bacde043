"""Independent readers of damaged checkpoints, with json, numpy, torch and gguf instead of max-gpt2."""

import json
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import torch

from fixtures.checkpoints import Tensors
from fixtures.formats import GGUF_NAMES, LLMC_LAYERS

CONV1D = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def reread(oracle: str, folder: Path) -> Tensors:
    """Return all tensors as float32, including `lm_head.weight`; weights of the layers are `[in, out]`."""
    state = {name: np.asarray(value, np.float32) for name, value in _READERS[oracle](folder).items()}
    state.setdefault("lm_head.weight", state["transformer.wte.weight"])
    return state


def _safetensors(folder: Path) -> Tensors:
    state: Tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        content = file.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        for name, entry in header.items():
            if name != "__metadata__":
                first, last = (start + offset for offset in entry["data_offsets"])
                state[name] = _numbers(content[first:last], entry["dtype"]).reshape(entry["shape"])
    return _huggingface(state)


def _numbers(content: bytes, dtype: str) -> np.ndarray:
    if dtype == "BF16":
        return (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(content, {"F32": "<f4", "F16": "<f2"}[dtype])


def _pickle(folder: Path) -> Tensors:
    state: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.bin")):
        state |= torch.load(file, map_location="cpu", weights_only=True)
    return _huggingface({name: value.detach().float().numpy() for name, value in state.items()})


def _huggingface(state: Tensors) -> Tensors:
    """Add the prefix `transformer.` to all names."""
    return {f"transformer.{name.removeprefix('transformer.')}": value for name, value in state.items()}


def _conv1d(state: Tensors) -> Tensors:
    """Transpose weights of PyTorch's Linear, `[out, in]`, to `[in, out]`."""
    return {name: value.T if name.endswith(CONV1D) else value for name, value in state.items()}


def _nanogpt(folder: Path) -> Tensors:
    content = torch.load(folder / "ckpt.pt", map_location="cpu", weights_only=True)
    state = {name: value.float().numpy() for name, value in content["model"].items()}
    if not content["model_args"].get("bias", True):
        zeros = {name: np.zeros(len(value)) for name, value in state.items() if ".h." in name or ".ln_f" in name}
        state |= {name.removesuffix("weight") + "bias": value for name, value in zeros.items()}
    return _conv1d(state)


def _llmc(folder: Path) -> Tensors:
    content = (folder / "gpt2.bin").read_bytes()
    version, positions, vocab, layers, _, width, padded = np.frombuffer(content, "<i4", 7, 4).tolist()
    numbers = _numbers(content[1024:], {3: "F32", 5: "BF16"}[version])

    def take(*shape: int) -> np.ndarray:
        nonlocal numbers
        count = int(np.prod(shape))
        taken, numbers = numbers[:count].reshape(shape), numbers[count:]
        return taken

    state = {"transformer.wte.weight": take(padded, width)[:vocab], "transformer.wpe.weight": take(positions, width)}
    outputs = {"attn.c_attn.": 3 * width, "mlp.c_fc.": 4 * width}
    inputs = {"mlp.c_proj.": 4 * width}
    for name in LLMC_LAYERS:
        layer, kind = name.rsplit(".", 1)
        shape: tuple[int, ...] = (outputs.get(f"{layer}.", width),)
        if kind == "weight" and not layer.startswith("ln"):
            shape += (inputs.get(f"{layer}.", width),)
        state |= {f"transformer.h.{number}.{name}": take(*shape) for number in range(layers)}
    state |= {"transformer.ln_f.weight": take(width), "transformer.ln_f.bias": take(width)}
    assert not len(numbers)
    return _conv1d(state)


def _gguf(folder: Path) -> Tensors:
    state: Tensors = {}
    for tensor in gguf.GGUFReader(folder / "gpt2.gguf").tensors:
        name = tensor.name
        for ours, theirs in GGUF_NAMES.items():
            name = ours + name[len(theirs) :] if name.startswith(theirs) else name.replace(theirs, ours)
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        state[name] = values.reshape(tensor.shape[::-1])
    return _conv1d(state)


_READERS: dict[str, Callable[[Path], Tensors]] = {
    "safetensors": _safetensors,
    "pickle": _pickle,
    "nanogpt": _nanogpt,
    "llmc": _llmc,
    "gguf": _gguf,
}
