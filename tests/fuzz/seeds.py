"""Valid checkpoints of every format, each in a separate folder, to be damaged."""

import contextlib
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import gguf
import torch
from safetensors.torch import load_file, save_file

from fixtures.checkpoints import Tensors, write_checkpoint, write_tokenizer
from fixtures.formats import NanoGPT, linear_state, nanogpt_content, write_gguf, write_llmc

#: The files of a slow tokenizer.
SLOW = ("vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json", "tokenizer_config.json")
#: Rows of a multiple of 32 values, which Q8_0 requires.
WIDE = {"n_embd": 32, "n_head": 4, "n_layer": 2}


@dataclass(frozen=True)
class Seed:
    """A valid checkpoint: its folder, the name of its oracle, and the files to damage."""

    name: str
    folder: Path
    oracle: str
    files: tuple[str, ...]

    def content(self, file: str) -> bytes:
        return (self.folder / file).read_bytes()


def write_seeds(root: Path) -> dict[str, Seed]:
    """Write all seeds below `root`; return them by name."""
    with contextlib.redirect_stderr(io.StringIO()):  # the progress bar of transformers
        original = write_checkpoint(root / "original")
    linear = linear_state()
    seeds = [*_huggingface(root, original), *_nanogpt(root), *_llmc(root, linear), *_gguf(root, linear)]
    shutil.rmtree(original)
    return {seed.name: seed for seed in seeds}


def _huggingface(root: Path, original: Path) -> list[Seed]:
    state = load_file(original / "model.safetensors")
    halves = {name: value.to(torch.bfloat16) for name, value in state.items()}
    names = ("safetensors", "shards", "pickle", "legacy", "pickle-shards")
    for name in names:
        shutil.copytree(original, root / name)
        if name != "safetensors":
            (root / name / "model.safetensors").unlink()
    shards = _split(halves, root / "shards" / "model.safetensors.index.json")
    for file, part in shards.items():
        save_file(part, root / "shards" / file, metadata={"format": "pt"})
    _make_slow(root / "shards")
    torch.save(state, root / "pickle" / "pytorch_model.bin")
    torch.save(state, root / "legacy" / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    pickles = _split(halves, root / "pickle-shards" / "pytorch_model.bin.index.json")
    for file, part in pickles.items():
        torch.save(part, root / "pickle-shards" / file)
    damaged = (
        ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json"),
        ("model.safetensors.index.json", *shards, *SLOW),
        ("pytorch_model.bin",),
        ("pytorch_model.bin",),
        ("pytorch_model.bin.index.json", *pickles),
    )
    oracles = ("safetensors", "safetensors", "pickle", "pickle", "pickle")
    return [Seed(*parts) for parts in zip(names, [root / name for name in names], oracles, damaged, strict=True)]


def _split(state: dict[str, torch.Tensor], index: Path) -> dict[str, dict[str, torch.Tensor]]:
    stem, ending = ("model", "safetensors") if "safetensors" in index.name else ("pytorch_model", "bin")
    names = sorted(state)
    halves = {f"{stem}-00001-of-00002.{ending}": names[:7], f"{stem}-00002-of-00002.{ending}": names[7:]}
    weight_map = {name: file for file, part in halves.items() for name in part}
    index.write_text(json.dumps({"metadata": {"total_size": 63}, "weight_map": weight_map}))
    return {file: {name: state[name] for name in part} for file, part in halves.items()}


def _make_slow(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    token = {"content": "<x>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    later: dict[str, object] = {
        "added_tokens.json": {"<x>": 300, " kind": 301},
        "special_tokens_map.json": {"pad_token": token, "eos_token": "<|endoftext|>"},
        "tokenizer_config.json": {"add_prefix_space": True, "additional_special_tokens": ["<x>"]},
    }
    for name, content in later.items():
        (folder / name).write_text(json.dumps(content))


def _nanogpt(root: Path) -> list[Seed]:
    seeds = []
    for name, bias in (("nanogpt", True), ("nanogpt-no-bias", False)):
        folder = root / name
        folder.mkdir()
        torch.save(nanogpt_content(NanoGPT(bias), bias), folder / "ckpt.pt")
        write_tokenizer(folder)
        seeds.append(Seed(name, folder, "nanogpt", ("ckpt.pt",)))
    return seeds


def _llmc(root: Path, weights: Tensors) -> list[Seed]:
    seeds = []
    for version in (3, 5):
        folder = root / f"llmc-{version}"
        folder.mkdir()
        write_llmc(folder / "gpt2.bin", weights, version)
        write_tokenizer(folder)
        seeds.append(Seed(folder.name, folder, "llmc", ("gpt2.bin",)))
    return seeds


def _gguf(root: Path, weights: Tensors) -> list[Seed]:
    seeds = []
    kinds = gguf.GGMLQuantizationType
    for kind in (kinds.F32, kinds.F16, kinds.Q8_0):
        folder = root / f"gguf-{kind.name.lower()}"
        folder.mkdir()
        if kind is kinds.Q8_0:
            write_gguf(folder / "gpt2.gguf", linear_state(**WIDE), n_head=4, quantised=kind)
        else:
            write_gguf(folder / "gpt2.gguf", weights, quantised=kind)
        shutil.rmtree(folder / "tokenizer-scratch")
        seeds.append(Seed(folder.name, folder, "gguf", ("gpt2.gguf",)))
    return seeds
