"""Checkpoints in the formats of other programs, written from what is known of them and by nothing of max-gpt2."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tests.checkpoints import Tensors, reference_model, write_tokenizer

#: nanoGPT and llm.c cannot store an epsilon: it is part of their programs.
EPSILON = 1e-5
#: nanoGPT's names of the uneven sizes.
MODEL_ARGS: dict[str, Any] = {
    "n_layer": 3,
    "n_head": 3,
    "n_embd": 24,
    "block_size": 67,
    "vocab_size": 311,
    "dropout": 0.0,
}


class NanoLayerNorm(nn.Module):
    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, EPSILON)


class NanoAttention(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width, bias=bias)
        self.c_proj = nn.Linear(width, width, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, seq, width = x.shape
        query, key, value = (
            part.view(batch, seq, self.heads, -1).transpose(1, 2) for part in self.c_attn(x).split(width, dim=2)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.c_proj(mixed.transpose(1, 2).reshape(batch, seq, width))


class NanoMLP(nn.Module):
    def __init__(self, width: int, bias: bool, gelu: str) -> None:
        super().__init__()
        self.gelu = gelu
        self.c_fc = nn.Linear(width, 4 * width, bias=bias)
        self.c_proj = nn.Linear(4 * width, width, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c_proj(F.gelu(self.c_fc(x), approximate=self.gelu))


class NanoBlock(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool, gelu: str) -> None:
        super().__init__()
        self.ln_1, self.attn = NanoLayerNorm(width, bias), NanoAttention(width, heads, bias)
        self.ln_2, self.mlp = NanoLayerNorm(width, bias), NanoMLP(width, bias, gelu)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class NanoGPT(nn.Module):
    """A GPT-2 as nanoGPT computes it, each of its parameters random; with `gelu="tanh"` as llm.c does."""

    def __init__(self, bias: bool, gelu: str = "none", **changes: Any) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.arguments = MODEL_ARGS | changes
        width, heads = self.arguments["n_embd"], self.arguments["n_head"]
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(self.arguments["vocab_size"], width),
                "wpe": nn.Embedding(self.arguments["block_size"], width),
                "h": nn.ModuleList(NanoBlock(width, heads, bias, gelu) for _ in range(self.arguments["n_layer"])),
                "ln_f": NanoLayerNorm(width, bias),
            }
        )
        self.lm_head = nn.Linear(width, self.arguments["vocab_size"], bias=False)
        self.lm_head.weight = self.transformer.get_submodule("wte").get_parameter("weight")
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.25 * torch.randn_like(parameter))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        parts = self.transformer
        x = parts["wte"](ids) + parts["wpe"](torch.arange(ids.shape[1]))
        x = nn.Sequential(*parts.get_submodule("h").children())(x)
        return self.lm_head(parts["ln_f"](x))


def nanogpt_content(model: NanoGPT, bias: bool, prefix: str = "") -> dict[str, Any]:
    """Return what nanoGPT's train.py saves, optimizer and all."""
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.arange(5)[None]).sum().backward()
    optimizer.step()
    return {
        "model": {prefix + name: value for name, value in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "model_args": model.arguments | {"bias": bias},
        "iter_num": 7,
        "best_val_loss": torch.tensor(1e9),
        "config": {"out_dir": "out", "learning_rate": 6e-4, "compile": True},
    }


def conv1d_weights(model: nn.Module) -> set[str]:
    """Return the names of the weights that a model keeps as `[in, out]`, by the type of their layers."""
    from transformers.pytorch_utils import Conv1D

    return {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Conv1D)}


def linear_layout(model: nn.Module) -> Tensors:
    """Return a model's state dict with its Conv1D weights, if it has any, as `[out, in]`."""
    conv1d = conv1d_weights(model)
    return {
        name: np.ascontiguousarray(value.numpy().T if name in conv1d else value.numpy())
        for name, value in model.state_dict().items()
    }


def linear_state(**changes: Any) -> Tensors:
    """Return the reference model's state dict with its four kinds of Conv1D weights as `[out, in]`."""
    return linear_layout(reference_model(layer_norm_epsilon=EPSILON, **changes))


LLMC_LAYERS = (
    "ln_1.weight",
    "ln_1.bias",
    "attn.c_attn.weight",
    "attn.c_attn.bias",
    "attn.c_proj.weight",
    "attn.c_proj.bias",
    "ln_2.weight",
    "ln_2.bias",
    "mlp.c_fc.weight",
    "mlp.c_fc.bias",
    "mlp.c_proj.weight",
    "mlp.c_proj.bias",
)


def write_llmc(path: Path, weights: Tensors, version: int = 3, padded: int = 384) -> Path:
    """Write a model of the uneven sizes as llm.c does; version 5 is bfloat16."""
    header = np.zeros(256, np.int32)
    header[:8] = 20240326, version, 67, 311, 3, 3, 24, padded
    wte = weights["transformer.wte.weight"]
    padding = np.full((padded - len(wte), wte.shape[1]), 123, np.float32)
    parts = [np.concatenate([wte, padding]), weights["transformer.wpe.weight"]]
    parts += [weights[f"transformer.h.{layer}.{name}"] for name in LLMC_LAYERS for layer in range(3)]
    parts += [weights["transformer.ln_f.weight"], weights["transformer.ln_f.bias"]]
    numbers = np.concatenate([part.ravel() for part in parts])
    if version == 5:
        as_bytes = torch.from_numpy(numbers).bfloat16().view(torch.int16).numpy().tobytes()
    else:
        as_bytes = numbers.tobytes()
    path.write_bytes(header.tobytes() + as_bytes)
    return path


GGUF_NAMES = {
    "transformer.wte.": "token_embd.",
    "transformer.wpe.": "position_embd.",
    "transformer.ln_f.": "output_norm.",
    "transformer.h.": "blk.",
    ".ln_1.": ".attn_norm.",
    ".ln_2.": ".ffn_norm.",
    ".attn.c_attn.": ".attn_qkv.",
    ".attn.c_proj.": ".attn_output.",
    ".mlp.c_fc.": ".ffn_up.",
    ".mlp.c_proj.": ".ffn_down.",
    "lm_head.": "output.",
}


def gguf_name(name: str) -> str:
    """Return GGUF's name of a tensor."""
    for ours, theirs in GGUF_NAMES.items():
        name = name.replace(ours, theirs)
    return name


def write_gguf(
    path: Path,
    weights: Tensors,
    n_head: int = 3,
    quantised: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    architecture: str = "gpt2",
    tokenizer: bool = True,
    writer_type: type[gguf.GGUFWriter] = gguf.GGUFWriter,
) -> Path:
    """Write a model with the `gguf` package; matrices are `quantised`, and the head is left out."""
    writer = writer_type(path, architecture)
    writer.add_context_length(weights["transformer.wpe.weight"].shape[0])
    writer.add_embedding_length(weights["transformer.wpe.weight"].shape[1])
    writer.add_block_count(len([name for name in weights if name.endswith("ln_1.bias")]))
    writer.add_feed_forward_length(weights["transformer.h.0.mlp.c_fc.bias"].shape[0])
    writer.add_head_count(n_head)
    writer.add_layer_norm_eps(EPSILON)
    if tokenizer:
        add_tokenizer(writer, path.parent)
    for name, value in weights.items():
        if name != "lm_head.weight":
            kind = quantised if value.ndim == 2 else gguf.GGMLQuantizationType.F32
            writer.add_tensor(gguf_name(name), gguf.quants.quantize(value, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_tokenizer(writer: gguf.GGUFWriter, folder: Path) -> None:
    """Put the tokenizer of `write_tokenizer` into a file, its 300 tokens padded to 311 as llama.cpp's script does."""
    scratch = folder / "tokenizer-scratch"
    scratch.mkdir()
    vocab = write_tokenizer(scratch).get_vocab()
    tokens = sorted(vocab, key=lambda token: vocab[token]) + [f"[PAD{id_}]" for id_ in range(300, 311)]
    types = [gguf.TokenType.NORMAL] * 299 + [gguf.TokenType.CONTROL] + [gguf.TokenType.UNUSED] * 11
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges((scratch / "merges.txt").read_text().splitlines()[1:])
    writer.add_eos_token_id(299)
