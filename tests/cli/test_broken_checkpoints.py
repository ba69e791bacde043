"""Checkpoints that no command can load."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fixtures.checkpoints import edit_config, edit_weights
from tests.support.cli import Cli, refused

Damage = Callable[[Path], object]


def remove(*names: str) -> Damage:
    def unlink(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return unlink


def write(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def spoil(name: str, value: np.ndarray) -> Damage:
    return lambda folder: edit_weights(folder, lambda tensors: tensors.update({name: value}))


def drop(name: str) -> Damage:
    def pop(tensors: dict[str, np.ndarray]) -> None:
        del tensors[name]

    return lambda folder: edit_weights(folder, pop)


BROKEN: list[tuple[Damage, str]] = [
    (remove("config.json"), "has no config.json"),
    (write("config.json", b"not json"), "is not readable JSON"),
    (lambda folder: edit_config(folder, model_type="bert"), 'model_type is "bert"'),
    (lambda folder: edit_config(folder, n_layer="3"), 'n_layer is "3"'),
    (drop("transformer.ln_f.bias"), "transformer.ln_f.bias [24] is missing"),
    (spoil("transformer.extra", np.zeros(1, np.float32)), "transformer.extra [1] does not belong to a GPT-2"),
    (spoil("transformer.ln_f.bias", np.zeros(23, np.float32)), "transformer.ln_f.bias is [23], expected [24]"),
    (
        spoil("transformer.ln_f.bias", np.full(24, np.nan, np.float32)),
        "transformer.ln_f.bias has 24 values that are NaN",
    ),
    (lambda folder: os.truncate(folder / "model.safetensors", 5000), "truncated or damaged"),
    (write("model.safetensors", b"<html>"), "web page"),
    (write("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
    (remove("model.safetensors"), "has no model.safetensors"),
    (write("tokenizer.json", b"{}"), "is not a tokenizer"),
    (lambda folder: edit_config(folder, vocab_size=200), "wte.weight is [311, 24], expected [200, 24]"),
    (remove("tokenizer.json", "vocab.json"), "has no tokenizer"),
]


@pytest.mark.parametrize(("damage", "message"), BROKEN, ids=[message for _, message in BROKEN])
@pytest.mark.parametrize("command", ["generate", "verify"])
def test_broken_checkpoint_is_one_error(cli: Cli, tiny: Path, command: str, damage: Damage, message: str) -> None:
    damage(tiny)
    assert message in refused(cli(command, "--model", tiny))


def test_tokenizer_larger_than_the_vocabulary_is_rejected(cli: Cli, tiny: Path) -> None:
    edit_config(tiny, vocab_size=290)
    edit_weights(
        tiny, lambda tensors: tensors.update({"transformer.wte.weight": tensors["transformer.wte.weight"][:290]})
    )
    assert "has 9 ids beyond the model's vocabulary of 290" in refused(cli("generate", "--model", tiny))


def test_missing_model_is_rejected(cli: Cli) -> None:
    assert '"./nothing" does not exist' in refused(cli("info", "--model", "./nothing"))
    assert '"~nobody-here/x" does not exist' in refused(cli("info", "--model", "~nobody-here/x"))
    assert "HF_HUB_OFFLINE is set" in refused(cli("generate", "x", "--model", "someone/no-such-model"))
