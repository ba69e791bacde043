from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from max_gpt2.checkpoint import load_checkpoint
from max_gpt2.config import SIZES, GPT2Config
from tools.make_checkpoint import file_header, stored_layout, write_checkpoint

SMALL = GPT2Config(vocab_size=4096, n_positions=31, n_embd=24, n_layer=2, n_head=3)


@pytest.mark.parametrize("size", SIZES)
def test_layout_matches_the_published_one(size: str) -> None:
    config, layout = SIZES[size], stored_layout(SIZES[size])
    masks = [name for name in layout if name.endswith(".attn.bias")]
    assert len(layout) == 13 * config.n_layer + 4  # 160 for gpt2, as on the hub
    assert len(masks) == config.n_layer
    assert layout["h.0.attn.bias"] == (1, 1, 1024, 1024)
    assert layout["h.0.attn.c_attn.weight"] == (config.n_embd, 3 * config.n_embd)
    assert layout["wte.weight"] == (50257, config.n_embd)
    assert not any(name.startswith(("transformer.", "lm_head")) for name in layout)
    assert len(file_header(config)) % 8 == 14291 % 8  # where the data of the published gpt2 starts


def test_transformers_loads_every_weight(tmp_path: Path) -> None:
    write_checkpoint(SMALL, tmp_path)
    load: Any = transformers.GPT2LMHeadModel.from_pretrained
    model, report = load(tmp_path, output_loading_info=True, dtype=torch.float32)
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    ours = load_checkpoint(tmp_path).state_dict
    c_proj = model.transformer.h[1].attn.c_proj.weight.detach().numpy()
    np.testing.assert_array_equal(ours["transformer.h.1.attn.c_proj.weight"], c_proj)
    assert len(transformers.AutoTokenizer.from_pretrained(tmp_path)("It was").input_ids) == 2


def test_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_checkpoint(SMALL, tmp_path / name, seed)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c
