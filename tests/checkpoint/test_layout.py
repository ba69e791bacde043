import numpy as np
import pytest

from fixtures.checkpoints import UNEVEN, reference_model
from max_gpt2.checkpoint.layout import canonical_name, canonical_shapes, is_conv1d, why_skipped
from max_gpt2.config import GPT2Config


@pytest.mark.parametrize(
    ("stored", "canonical"),
    [
        ("wte.weight", "transformer.wte.weight"),
        ("transformer.wte.weight", "transformer.wte.weight"),
        ("module.transformer.h.0.ln_1.bias", "transformer.h.0.ln_1.bias"),
        ("_orig_mod.h.11.mlp.c_fc.weight", "transformer.h.11.mlp.c_fc.weight"),
        ("module._orig_mod.transformer.ln_f.weight", "transformer.ln_f.weight"),
        ("lm_head.weight", "lm_head.weight"),
        ("module.lm_head.weight", "lm_head.weight"),
        ("score.weight", "score.weight"),
    ],
)
def test_known_prefixes_are_removed(stored: str, canonical: str) -> None:
    assert canonical_name(stored) == canonical


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ("h.0.attn.bias", "mask buffer"),
        ("transformer.h.11.attn.masked_bias", "mask buffer"),
        ("h.3.crossattention.bias", "mask buffer"),
        ("h.0.attn.c_attn.bias", None),
        ("h.0.attn.c_proj.bias", None),
        ("multiple_choice_head.summary.weight", "head of another task"),
        ("score.weight", "head of another task"),
        ("classifier.bias", "head of another task"),
        ("qa_outputs.weight", "head of another task"),
        ("h.0.attn.extra", None),
        ("scored.weight", None),
    ],
)
def test_only_masks_and_other_heads_are_skipped(stored: str, reason: str | None) -> None:
    assert why_skipped(canonical_name(stored)) == reason


def test_names_and_shapes_match_transformers() -> None:
    fields = {name: UNEVEN[name] for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")}
    ours = canonical_shapes(GPT2Config(**fields, n_inner=56))
    theirs = {name: tuple(value.shape) for name, value in reference_model(n_inner=56).state_dict().items()}
    assert ours == theirs


def test_conv1d_weights_match_transformers() -> None:
    from transformers.pytorch_utils import Conv1D

    model = reference_model()
    theirs = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Conv1D)}
    assert {name for name in model.state_dict() if is_conv1d(name)} == theirs
    assert np.prod(model.transformer.h[0].attn.c_proj.weight.shape) == 24 * 24  # including the square one
