import io
import json
import os
import pickle
import pickletools
import shutil
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fixtures.checkpoints import assert_same, conv1d_weights, reference_model, save_sharded_pickle
from max_gpt2.checkpoint import Checkpoint, LoadOptions, inspect_checkpoint, load_checkpoint
from max_gpt2.errors import CheckpointError, MaxGPT2Error, MissingExtraError

State = dict[str, torch.Tensor]
WTE = "transformer.wte.weight"


@pytest.fixture
def state(tiny: Path) -> State:
    """Return the weights of `tiny` and delete their file."""
    weights = load_file(tiny / "model.safetensors")
    (tiny / "model.safetensors").unlink()
    return weights


def error_message(path: Path, **options: Any) -> str:
    with pytest.raises(MaxGPT2Error) as caught:
        load_checkpoint(path, LoadOptions(**({"allow_pickle": True} | options)))
    return str(caught.value)


def save_legacy(folder: Path, state: State) -> None:
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def save_new(folder: Path, state: State) -> None:
    torch.save(state, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("save", "name"),
    [
        (save_new, "Hugging Face pickle"),
        (save_legacy, "Hugging Face pickle"),
        (save_sharded_pickle, "Hugging Face pickle, 2 shards"),
    ],
)
def test_state_dict_matches_transformers(
    tiny: Path, state: State, tiny_checkpoint: Checkpoint, save: Callable[[Path, State], None], name: str
) -> None:
    save(tiny, state)
    checkpoint = load_checkpoint(tiny, LoadOptions(allow_pickle=True))
    assert_same(checkpoint.state_dict, tiny_checkpoint.state_dict, atol=0)
    assert_same(checkpoint.state_dict, conv1d_weights(reference_model()))
    assert checkpoint.plan.format == name
    assert checkpoint.plan.transposed == []
    message = error_message(tiny, allow_pickle=False)
    assert "is a pickle" in message
    assert "--allow-pickle" in message
    assert "pytorch_model" in message


@pytest.mark.parametrize("save", [save_new, save_legacy])
@pytest.mark.parametrize("name", ["model.safetensors", "weights.gguf"])
def test_pickle_is_detected_under_any_name(
    tiny: Path, state: State, tiny_checkpoint: Checkpoint, save: Callable[[Path, State], None], name: str
) -> None:
    save(tiny, state)
    (tiny / "pytorch_model.bin").rename(tiny / name)
    checkpoint = load_checkpoint(tiny, LoadOptions(allow_pickle=True))
    assert checkpoint.plan.format == "Hugging Face pickle"
    assert_same(checkpoint.state_dict, tiny_checkpoint.state_dict, atol=0)
    assert "is a pickle" in error_message(tiny, allow_pickle=False)


def test_weights_survive_replacement_of_the_file(tiny: Path, state: State) -> None:
    save_new(tiny, state)
    checkpoint = load_checkpoint(tiny, LoadOptions(allow_pickle=True))
    file = tiny / "pytorch_model.bin"
    size = file.stat().st_size
    file.unlink()
    file.write_bytes(bytes(size))
    np.testing.assert_array_equal(checkpoint.state_dict[WTE], state[WTE].numpy())
    assert checkpoint.state_dict[WTE].flags.writeable


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_upcast_and_masks_are_skipped(tiny: Path, state: State, dtype: torch.dtype) -> None:
    halves = {name: value.to(dtype) for name, value in state.items()}
    save_new(tiny, halves | {"transformer.h.0.attn.bias": torch.ones(1, 1, 67, 67, dtype=torch.uint8)})
    checkpoint = load_checkpoint(tiny, LoadOptions(allow_pickle=True, weights="float32"))
    np.testing.assert_array_equal(checkpoint.state_dict[WTE], halves[WTE].float().numpy())
    assert set(checkpoint.plan.upcast) == set(halves)
    assert checkpoint.plan.skipped == {"transformer.h.0.attn.bias": "mask buffer"}


def test_tied_head_and_transposed_views_are_read(tiny: Path, state: State, tiny_checkpoint: Checkpoint) -> None:
    name = "transformer.h.0.mlp.c_fc.weight"
    view = state[name].T.contiguous().T
    assert not view.is_contiguous()
    save_new(tiny, state | {"lm_head.weight": state[WTE], name: view})
    checkpoint = load_checkpoint(tiny, LoadOptions(allow_pickle=True))
    assert checkpoint.plan.skipped == {"lm_head.weight": "equal to wte"}
    assert_same(checkpoint.state_dict, tiny_checkpoint.state_dict, atol=0)


def test_parameters_are_read_as_tensors(tiny: Path, state: State, tiny_checkpoint: Checkpoint) -> None:
    torch.save({name: torch.nn.Parameter(value) for name, value in state.items()}, tiny / "pytorch_model.bin")
    assert_same(load_checkpoint(tiny, LoadOptions(allow_pickle=True)).state_dict, tiny_checkpoint.state_dict, atol=0)


class Hostile:
    """An object that creates a folder when it is unpickled without protection."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._mark),)


def dump(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("save", [torch.save, dump])
def test_pickle_with_code_is_rejected_without_running_it(
    tiny: Path, state: State, tmp_path: Path, save: Callable[[object, Path], None]
) -> None:
    mark = tmp_path / "mark"
    save({"transformer.extra": Hostile(mark)}, tiny / "pytorch_model.bin")
    for allowed in (False, True):
        message = error_message(tiny, allow_pickle=allowed)
        assert "pytorch_model.bin" in message
        assert not mark.exists()
    assert "no code in it was run" in message
    assert "\n" not in message
    pickle.loads(pickle.dumps(Hostile(mark)))
    assert mark.exists()  # the attack works without protection


@pytest.mark.parametrize("length", [3, 100, 0.5, 0.99, 0.9999])
@pytest.mark.parametrize("save", [save_new, save_legacy])
def test_truncated_file_is_rejected(
    tiny: Path, state: State, save: Callable[[Path, State], None], length: float
) -> None:
    save(tiny, state)
    path = tiny / "pytorch_model.bin"
    content = path.read_bytes()
    path.write_bytes(content[: int(length if length >= 1 else length * len(content))])
    message = error_message(tiny)
    assert "pytorch_model.bin" in message
    assert "damaged" in message


def test_huge_string_length_allocates_no_memory(tiny: Path, state: State) -> None:
    save_legacy(tiny, state)
    path = tiny / "pytorch_model.bin"
    content = bytearray(path.read_bytes())
    name = content.index(b"transformer.h.0")
    content[name - 4 : name] = b"\xff\xff\xff\x7f"  # the length of the string
    path.write_bytes(content)
    tracemalloc.start()
    try:
        assert "pytorch_model.bin is truncated or damaged" in error_message(tiny)
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("count", [2**31 - 1, 20_000])
def test_declared_size_beyond_the_data_is_rejected(tiny: Path, state: State, count: int) -> None:
    save_legacy(tiny, state)
    path = tiny / "pytorch_model.bin"
    stored = pickle.dumps(state[WTE].numel(), protocol=2)[2:-1]
    assert stored.startswith(b"M")
    path.write_bytes(path.read_bytes().replace(stored, b"J" + count.to_bytes(4, "little"), 1))
    assert "pytorch_model.bin is truncated or damaged (it declares more values than it contains)" in error_message(tiny)


def test_missing_storage_is_not_left_uninitialised(tiny: Path, state: State) -> None:
    """PyTorch returns uninitialised memory for a storage that the file lacks."""
    save_legacy(tiny, state)
    path = tiny / "pytorch_model.bin"
    with path.open("rb") as file:
        for _ in range(4):
            pickletools.dis(file, out=io.StringIO())
        start = file.tell()
        keys = pickle.load(file)
        rest = file.read()
    path.write_bytes(path.read_bytes()[:start] + pickle.dumps(keys[:-1], protocol=2) + rest)
    assert "values that are NaN or infinite" in error_message(tiny)


def test_warnings_of_pytorch_are_silenced(tiny: Path, state: State) -> None:
    save_legacy(tiny, state)
    content = bytearray((tiny / "pytorch_model.bin").read_bytes())
    content[1] = 3  # the pickle protocol; PyTorch warns that it may not support protocol 3
    (tiny / "pytorch_model.bin").write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_checkpoint(tiny, LoadOptions(allow_pickle=True))
    assert not caught


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"transformer.ln_f.bias": torch.zeros(23)}, "transformer.ln_f.bias is [23], expected [24]"),
        ({"transformer.ln_f.bias": torch.zeros(24, dtype=torch.int8)}, "transformer.ln_f.bias is int8, which is not"),
        ({"transformer.ln_f.bias": torch.zeros(24, dtype=torch.float64)}, "transformer.ln_f.bias is F64, which is not"),
        ({"transformer.ln_f.bias": torch.zeros(24).to_sparse()}, "is a sparse or nested F32"),
        ({"transformer.ln_f.bias": torch.zeros(24, device="meta")}, "is a F32 without values"),
        ({"transformer.ln_f.bias": torch.zeros(1).expand(24)}, "is an expanded F32"),
        ({"transformer.extra": torch.zeros(2)}, "transformer.extra [2] does not belong to a GPT-2"),
        ({"transformer.extra": 3}, "'transformer.extra' is of type int, not a tensor"),
        ({7: torch.zeros(2)}, "7 is of type Tensor, not a tensor"),
    ],
)
def test_unsuitable_tensor_is_named(tiny: Path, state: State, change: dict[Any, Any], expected: str) -> None:
    torch.save(state | change, tiny / "pytorch_model.bin")
    assert expected in error_message(tiny)


def test_missing_tensor_is_named(tiny: Path, state: State) -> None:
    del state["transformer.h.1.ln_2.bias"]
    save_new(tiny, state)
    assert "transformer.h.1.ln_2.bias [24] is missing" in error_message(tiny)


@pytest.mark.parametrize("content", [[1, 2], "text", None])
def test_other_objects_are_rejected(tiny: Path, state: State, content: object) -> None:
    torch.save(content, tiny / "pytorch_model.bin")
    assert f"contains a {type(content).__name__}, not a state dict" in error_message(tiny)


def test_missing_pytorch_suggests_the_extra(tiny: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    save_new(tiny, state)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'max-gpt2\[compare\]'"):
        inspect_checkpoint(tiny, LoadOptions(allow_pickle=True))


def test_unsafe_pytorch_version_is_rejected(tiny: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    save_new(tiny, state)
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(MissingExtraError, match=r"2\.9\.1\+cpu is too old"):
        inspect_checkpoint(tiny, LoadOptions(allow_pickle=True))


class TestShards:
    @pytest.fixture
    def sharded(self, tiny: Path, state: State) -> Path:
        save_sharded_pickle(tiny, state)
        return tiny

    def test_missing_shard_is_named(self, sharded: Path) -> None:
        (sharded / "pytorch_model-00002-of-00002.bin").unlink()
        assert "the shard pytorch_model-00002-of-00002.bin is missing" in error_message(sharded)

    def test_shard_outside_the_folder_is_rejected(self, sharded: Path) -> None:
        path = sharded / "pytorch_model.bin.index.json"
        path.write_text(path.read_text().replace("pytorch_model-00001", "../pytorch_model-00001"))
        assert "is not a plain file name" in error_message(sharded)

    def test_shard_of_another_format_is_rejected(self, sharded: Path) -> None:
        (sharded / "pytorch_model-00002-of-00002.bin").write_bytes(b"GGUF and so on")
        with pytest.raises(CheckpointError, match=r"The shard .* has the format GGUF"):
            load_checkpoint(sharded, LoadOptions(allow_pickle=True))

    def test_safetensors_shard_is_detected_under_any_name(
        self, sharded: Path, tiny_original: Path, tiny_checkpoint: Checkpoint
    ) -> None:
        shutil.copy(tiny_original / "model.safetensors", sharded / "all.bin")
        names = list(load_file(sharded / "all.bin"))
        index = {"weight_map": dict.fromkeys(names, "all.bin")}
        (sharded / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        checkpoint = load_checkpoint(sharded)  # needs no allow_pickle: the shard is not a pickle
        assert_same(checkpoint.state_dict, tiny_checkpoint.state_dict, atol=0)
