"""The fields of a config that change what is computed, or that are refused."""

from pathlib import Path
from typing import Any

from torch import nn

from tests.checkpoints import edit_config, reference_model
from tests.zoo.fixture import Build, Group, fixture, saved


def with_config(**changes: Any) -> Build:
    def build(folder: Path) -> nn.Module:
        return saved(folder, reference_model(**changes))

    return build


for name in (
    *("gelu_new", "gelu", "gelu_fast", "gelu_pytorch_tanh", "gelu_python", "gelu_accurate"),
    *("quick_gelu", "relu", "silu", "swish", "tanh"),
):
    fixture(Group.FLAGS, f"activation_function {name}")(with_config(activation_function=name))
fixture(Group.FLAGS, "n_inner 56")(with_config(n_inner=56))
fixture(Group.FLAGS, "scale_attn_weights false")(with_config(scale_attn_weights=False))
fixture(Group.FLAGS, "scale_attn_by_inverse_layer_idx")(with_config(scale_attn_by_inverse_layer_idx=True))
fixture(Group.FLAGS, "scale_attn_weights false, scale_attn_by_inverse_layer_idx")(
    with_config(scale_attn_weights=False, scale_attn_by_inverse_layer_idx=True)
)
fixture(Group.FLAGS, "reorder_and_upcast_attn")(with_config(reorder_and_upcast_attn=True))
fixture(Group.FLAGS, "vocab_size 50304")(with_config(vocab_size=50304))


def refused(**changes: Any) -> Build:
    def build(folder: Path) -> None:
        saved(folder)
        edit_config(folder, **changes)

    return build


fixture(Group.FLAGS, "an unknown activation_function")(refused(activation_function="mish"))
fixture(Group.FLAGS, "add_cross_attention")(refused(add_cross_attention=True))
fixture(Group.FLAGS, "pruned_heads")(refused(pruned_heads={"0": [1]}))
fixture(Group.FLAGS, "quantization_config")(refused(quantization_config={"bits": 4}))
fixture(Group.FLAGS, "another model_type")(refused(model_type="gpt_neo", architectures=["GPTNeoForCausalLM"]))
