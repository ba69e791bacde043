"""LoRA adapters merged into a checkpoint, compared with PEFT, which adds them to the running model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel

from fixtures.checkpoints import assert_same, random_ids, write_checkpoint
from max_gpt2.checkpoint import Adapter, LoadOptions, inspect_checkpoint, load_checkpoint
from max_gpt2.checkpoint.convert import convert
from max_gpt2.errors import CheckpointError, RequestError
from max_gpt2.generation import open_model
from max_gpt2.generation.fingerprint import fingerprint
from max_gpt2.serve import prepare as prepare_module
from max_gpt2.serve.prepare import prepare
from max_gpt2.verify.models import TorchImplementation
from tests.support.adapters import base_model, save_adapter

IDS = random_ids(2, 11)


def logits_of_peft(base: Path, *adapters: Adapter) -> np.ndarray:
    reference = TorchImplementation(base)
    reference.add_adapters(adapters)
    return reference.logits(IDS)


def merged_logits(base: Path, *adapters: Adapter) -> np.ndarray:
    return TorchImplementation(load_checkpoint(base, LoadOptions(adapters=adapters))).logits(IDS)


CONFIGS: dict[str, dict[str, Any]] = {
    "c_attn": {"target_modules": ["c_attn"], "fan_in_fan_out": True},
    "fan_in_fan_out false": {"target_modules": ["c_attn"], "fan_in_fan_out": False},
    "the square c_proj": {"target_modules": ["attn.c_proj"]},
    "every Conv1D": {"target_modules": ["c_attn", "c_proj", "c_fc"]},
    "rank and alpha patterns": {
        "target_modules": ["c_attn", "c_fc"],
        "rank_pattern": {"c_fc": 2, r"h\.1\.attn\.c_attn": 5},
        "alpha_pattern": {"h.0.mlp.c_fc": 11},
    },
    "rslora": {"target_modules": ["c_fc"], "use_rslora": True},
    "biases of all layers": {"target_modules": ["c_fc"], "bias": "all"},
    "biases of the layers with LoRA": {"target_modules": ["c_fc"], "bias": "lora_only"},
    "lora_bias": {"target_modules": ["c_attn"], "lora_bias": True, "init_lora_weights": False},
    "modules_to_save ln_f": {"target_modules": ["c_attn"], "modules_to_save": ["ln_f"]},
    "modules_to_save lm_head": {"target_modules": ["c_attn"], "modules_to_save": ["lm_head"]},
    "modules_to_save wte": {"target_modules": ["c_attn"], "modules_to_save": ["wte"]},
    "modules_to_save c_proj": {"target_modules": ["c_attn"], "modules_to_save": ["h.1.attn.c_proj"]},
    "embeddings": {"target_modules": ["wte", "wpe"]},
    "the head": {"target_modules": ["lm_head"]},
    "one layer": {"target_modules": ["c_attn"], "layers_to_transform": [1]},
}


@pytest.mark.parametrize("options", CONFIGS.values(), ids=CONFIGS)
def test_merged_logits_match_peft(tiny_original: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    adapter = Adapter(save_adapter(tiny_original, tmp_path, **options))
    expected = logits_of_peft(tiny_original, adapter)
    base = base_model(tiny_original)(torch.from_numpy(IDS)).logits.detach().numpy()
    assert np.abs(expected - base).max() > 0.1
    np.testing.assert_allclose(merged_logits(tiny_original, adapter), expected, rtol=0, atol=2e-5)


def test_scaled_adapters_are_added_up(tiny_original: Path, tmp_path: Path) -> None:
    first = Adapter(save_adapter(tiny_original, tmp_path / "a", 1, target_modules=["c_attn", "attn.c_proj"]), 0.5)
    second = Adapter(save_adapter(tiny_original, tmp_path / "b", 2, r=2, target_modules=["c_attn", "c_fc"]), -1.25)
    expected = logits_of_peft(tiny_original, first, second)
    np.testing.assert_allclose(merged_logits(tiny_original, first, second), expected, rtol=0, atol=2e-5)
    assert np.abs(expected - logits_of_peft(tiny_original, first)).max() > 0.1


def test_order_of_adapters_does_not_matter(tiny_original: Path, tmp_path: Path) -> None:
    both = [
        Adapter(save_adapter(tiny_original, tmp_path / str(seed), seed, target_modules=["c_fc"])) for seed in (1, 2)
    ]
    states = [
        load_checkpoint(tiny_original, LoadOptions(adapters=tuple(order))).state_dict for order in (both, both[::-1])
    ]
    name = "transformer.h.0.mlp.c_fc.weight"
    np.testing.assert_allclose(states[0][name], states[1][name], rtol=0, atol=1e-7)


def test_merged_folder_matches_peft(tiny_original: Path, tmp_path: Path) -> None:
    adapter = Adapter(
        save_adapter(tiny_original, tmp_path / "a", target_modules=["c_attn", "c_proj"], modules_to_save=["lm_head"])
    )
    new = convert(tiny_original, tmp_path / "new", LoadOptions(adapters=(adapter,))).folder
    found = base_model(new)(torch.from_numpy(IDS)).logits.detach().numpy()
    np.testing.assert_allclose(found, logits_of_peft(tiny_original, adapter), rtol=0, atol=2e-5)


def test_batch_run_and_server_folder_depend_on_the_adapter(
    tiny_original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run resumes, and a folder is reused, only with the same adapters and scales."""
    monkeypatch.setattr(prepare_module, "compiled_files", lambda: tmp_path / "cache")
    folders = [
        save_adapter(tiny_original, tmp_path / name, seed, target_modules=["c_fc"]) for seed, name in enumerate("ab")
    ]
    kinds = [(), (Adapter(folders[0]),), (Adapter(folders[0], 0.5),), (Adapter(folders[1]),)]
    options = [LoadOptions(adapters=kind) for kind in kinds]
    assert len({fingerprint(open_model(tiny_original, one)) for one in options}) == len(kinds)
    assert len({prepare(tiny_original, one).folder.name for one in options}) == len(kinds)
    served = load_checkpoint(prepare(tiny_original, options[2]).folder).state_dict
    merged = load_checkpoint(tiny_original, options[2]).state_dict
    assert_same(served, merged, atol=0)


def test_plan_names_the_changed_tensors(tiny_original: Path, tmp_path: Path) -> None:
    adapter = Adapter(save_adapter(tiny_original, tmp_path, target_modules=["attn.c_proj"]), 0.5)
    plan = inspect_checkpoint(tiny_original, LoadOptions(adapters=(adapter,)))[2]
    assert plan.adapters == (adapter,)
    assert plan.merged == [f"transformer.h.{layer}.attn.c_proj.weight" for layer in range(3)]
    assert plan.tied


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "LOHA"}, 'peft_type is "LOHA", not LORA'),
        ({"use_dora": True}, "use_dora is true"),
        ({"init_lora_weights": "pissa"}, 'init_lora_weights is "pissa", which changes the base model'),
        ({"layer_replication": [[0, 2]]}, "layer_replication is"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices is"),
        ({"a_later_variant": {"x": 1}}, "a_later_variant is"),
        ({"r": 4}, "which are not of rank 4"),
        ({"rank_pattern": [3]}, "rank_pattern is not an object"),
        ({"lora_alpha": None}, "lora_alpha is None"),
    ],
)
def test_unsupported_adapter_is_named(
    tiny_original: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = save_adapter(tiny_original, tmp_path, target_modules=["c_attn"])
    edit(folder, **changes)
    with pytest.raises(CheckpointError) as caught:
        inspect_checkpoint(tiny_original, LoadOptions(adapters=(Adapter(folder),)))
    assert message in str(caught.value)
    assert str(folder) in str(caught.value)


def test_adapter_of_another_size_is_named(tiny_original: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other", n_embd=36)
    folder = save_adapter(other, tmp_path / "adapter", target_modules=["c_attn"])
    with pytest.raises(CheckpointError, match=r"h\.0\.attn\.c_attn\.lora_B\.weight is for a weight \[36, 108\]"):
        inspect_checkpoint(tiny_original, LoadOptions(adapters=(Adapter(folder),)))


def test_two_adapters_that_replace_one_tensor_are_rejected(tiny_original: Path, tmp_path: Path) -> None:
    folders = [
        save_adapter(tiny_original, tmp_path / name, target_modules=["c_fc"], modules_to_save=["ln_f"]) for name in "ab"
    ]
    with pytest.raises(CheckpointError, match=r"both replace transformer\.ln_f\.weight"):
        inspect_checkpoint(tiny_original, LoadOptions(adapters=tuple(map(Adapter, folders))))


def test_folder_without_an_adapter_is_named(tiny_original: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no adapter_config\.json"):
        inspect_checkpoint(tiny_original, LoadOptions(adapters=(Adapter(tiny_original),)))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_scale_follows_a_colon(scale: float) -> None:
    assert Adapter.parse(f"no/such:folder:{scale!r}") == Adapter(Path("no/such:folder"), scale)


@pytest.mark.parametrize("value", ["no/such:half", "no/such:", "no/such:nan"])
def test_malformed_scale_is_named(value: str) -> None:
    with pytest.raises(RequestError, match="is not a scale"):
        Adapter.parse(value)


def test_colon_in_an_existing_path_is_no_scale(tmp_path: Path) -> None:
    folder = tmp_path / "lora:0.5"
    folder.mkdir()
    assert Adapter.parse(folder) == Adapter(folder)


def test_peft_adds_the_adapter_without_merging(tiny_original: Path, tmp_path: Path) -> None:
    adapter = Adapter(save_adapter(tiny_original, tmp_path, target_modules=["c_attn"]))
    expected = PeftModel.from_pretrained(base_model(tiny_original), adapter.path).eval()(torch.from_numpy(IDS)).logits
    np.testing.assert_array_equal(logits_of_peft(tiny_original, adapter), expected.detach().numpy())
