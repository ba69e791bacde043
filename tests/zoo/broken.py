"""Hostile and broken files, each of which has to be refused, and nothing in it run."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from tests.checkpoints import edit_weights, reference_model
from tests.zoo.fixture import Build, Group, fixture, saved

LN_F = "transformer.ln_f.bias"
RAN = "ran"


def damaged(damage: Callable[[Path], object]) -> Build:
    def build(folder: Path) -> None:
        saved(folder)
        damage(folder)

    return build


def weights(edit: Callable[[dict[str, np.ndarray]], Any]) -> Build:
    return damaged(lambda folder: edit_weights(folder, edit))


def content(new: bytes) -> Build:
    return damaged(lambda folder: (folder / "model.safetensors").write_bytes(new))


@fixture(Group.BROKEN, "a pickle without --allow-pickle")
def pickle_not_allowed(folder: Path) -> None:
    saved(folder)
    (folder / "model.safetensors").unlink()
    torch.save(reference_model().state_dict(), folder / "pytorch_model.bin")


@fixture(Group.BROKEN, "a pickle that is cut off, and --allow-pickle", allow_pickle=True)
def pickle_cut_off(folder: Path) -> None:
    pickle_not_allowed(folder)
    os.truncate(folder / "pytorch_model.bin", 50_000)


class Code:
    """What a pickle may hold: a call of any function there is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder / RAN),)


@fixture(Group.BROKEN, "a pickle with code in it, and --allow-pickle", allow_pickle=True)
def pickle_with_code(folder: Path) -> None:
    saved(folder)
    (folder / "model.safetensors").unlink()
    torch.save({"transformer.wte.weight": Code(folder)}, folder / "pytorch_model.bin")


fixture(Group.BROKEN, "a web page")(content(b"<!DOCTYPE html><html>Not found</html>"))
fixture(Group.BROKEN, "a Git LFS pointer")(
    content(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n")
)
fixture(Group.BROKEN, "an empty file")(content(b""))
fixture(Group.BROKEN, "a header of 2 GB")(content((2**31).to_bytes(8, "little") + b"{}"))


@fixture(Group.BROKEN, "a file that is cut off")
def cut_off(folder: Path) -> None:
    saved(folder)
    os.truncate(folder / "model.safetensors", 50_000)


@fixture(Group.BROKEN, "a name that is twice in the header")
def twice(folder: Path) -> None:
    saved(folder)
    path = folder / "model.safetensors"
    before = path.read_bytes()
    size = int.from_bytes(before[:8], "little")
    header = before[8 : 8 + size].rstrip()
    entry = json.dumps(json.loads(header)[LN_F]).encode()
    header = header[:-1] + b',"' + LN_F.encode() + b'":' + entry + b"}"
    path.write_bytes(len(header).to_bytes(8, "little") + header + before[8 + size :])


fixture(Group.BROKEN, "NaN")(weights(lambda tensors: np.put(tensors[LN_F], [3], np.nan)))
fixture(Group.BROKEN, "an infinite value")(weights(lambda tensors: np.put(tensors[LN_F], [3, 5], np.inf)))
fixture(Group.BROKEN, "a wrong shape")(weights(lambda tensors: tensors.update({LN_F: np.zeros(23, np.float32)})))
fixture(Group.BROKEN, "a missing tensor")(weights(lambda tensors: tensors.pop(LN_F)))
fixture(Group.BROKEN, "a tensor too many")(weights(lambda tensors: tensors.update({"extra": np.zeros(2, np.float32)})))

fixture(Group.BROKEN, "a tensor twice, with a prefix and without")(
    weights(lambda tensors: tensors.update({LN_F.removeprefix("transformer."): tensors[LN_F]}))
)
fixture(Group.BROKEN, "the head of a task that GPT-2 has no name for")(
    weights(lambda tensors: tensors.update({"v_head.summary.weight": np.zeros((1, 24), np.float32)}))
)


@fixture(Group.BROKEN, "three faults at once")
def several(folder: Path) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        del tensors[LN_F]
        tensors["transformer.h.3.ln_1.bias"] = np.zeros(24, np.float32)
        tensors["transformer.wpe.weight"] = np.zeros((66, 24), np.float32)

    saved(folder)
    edit_weights(folder, spoil)


@fixture(Group.BROKEN, "no tokenizer")
def no_tokenizer(folder: Path) -> None:
    saved(folder)
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (folder / name).unlink()


@fixture(Group.BROKEN, "a tokenizer with more ids than the model")
def large_tokenizer(folder: Path) -> None:
    saved(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([f"<{number}>" for number in range(20)])
    tokenizer.save(str(folder / "tokenizer.json"))


@fixture(Group.BROKEN, "no config.json")
def no_config(folder: Path) -> None:
    saved(folder)
    (folder / "config.json").unlink()


fixture(Group.BROKEN, "a config.json that is no JSON")(
    damaged(lambda folder: (folder / "config.json").write_text("<html>Not found</html>"))
)
fixture(Group.BROKEN, "a tokenizer.json that is no tokenizer")(
    damaged(lambda folder: (folder / "tokenizer.json").write_text("<html>Not found</html>"))
)
