"""Weights in several files, with an index that says which tensor is in which."""

import json
from collections.abc import Callable
from pathlib import Path

from torch import nn

from tests.checkpoints import reference_model
from tests.zoo.fixture import Build, Group, fixture, saved

#: Which file a tensor is in.
Files = dict[str, str]


@fixture(Group.LAYOUT, "sharded")
def sharded(folder: Path) -> nn.Module:
    model = reference_model()
    saved(folder, model)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 1
    return model


def indexed(edit: Callable[[Files], object]) -> Build:
    """Have an index of which somebody changed the map from tensors to files."""

    def build(folder: Path) -> None:
        sharded(folder)
        index = folder / "model.safetensors.index.json"
        values = json.loads(index.read_text())
        edit(values["weight_map"])
        index.write_text(json.dumps(values))

    return build


def naming(file: str) -> Callable[[Files], None]:
    return lambda files: files.update({"transformer.wpe.weight": file})


for name in ("../model.safetensors", "/etc/model.safetensors"):
    fixture(Group.LAYOUT, f"a shard named {name}")(indexed(naming(name)))
fixture(Group.LAYOUT, "an index that leaves a tensor out")(
    indexed(lambda files: files.pop("transformer.h.1.attn.c_proj.weight"))
)


@fixture(Group.LAYOUT, "a shard that is missing")
def missing_shard(folder: Path) -> None:
    sharded(folder)
    next(folder.glob("model-00002-of-*.safetensors")).unlink()
