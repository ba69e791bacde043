import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from max_gpt2.config import ACTIVATIONS, ALIASES, SIZES, GPT2Config, read_config
from max_gpt2.errors import ConfigError

PUBLISHED = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_head": 12}
#: Counts of the published files. Table 2 of the GPT-2 paper says 117 M, 345 M, 762 M and 1542 M.
PARAMETERS = {"gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200}


def test_defaults_match_transformers() -> None:
    ours, theirs = GPT2Config(), transformers.GPT2Config()
    for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner", "activation_function"):
        assert getattr(ours, name) == getattr(theirs, name)
    for name in ("layer_norm_epsilon", "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "tie_word_embeddings"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.eos_token_ids == (theirs.eos_token_id,)


@pytest.mark.parametrize("size", SIZES)
def test_sizes_have_the_published_parameter_counts(size: str) -> None:
    from max_gpt2.checkpoint.layout import canonical_shapes
    from max_gpt2.weights import LM_HEAD

    total = 0
    for name, shape in canonical_shapes(SIZES[size]).items():
        if name != LM_HEAD:
            count = 1
            for length in shape:
                count *= length
            total += count
    assert total == PARAMETERS[size]


def test_n_inner_is_four_times_the_width_unless_given() -> None:
    assert GPT2Config(n_embd=24, n_head=3).intermediate_size == 96
    assert GPT2Config(n_embd=24, n_head=3, n_inner=7).intermediate_size == 7


def test_every_field_that_changes_the_logits_is_read() -> None:
    values: dict[str, Any] = {
        "vocab_size": 11,
        "n_positions": 12,
        "n_embd": 15,
        "n_layer": 2,
        "n_head": 5,
        "n_inner": 17,
        "activation_function": "relu",
        "layer_norm_epsilon": 1e-3,
        "scale_attn_weights": False,
        "scale_attn_by_inverse_layer_idx": True,
        "reorder_and_upcast_attn": True,
        "tie_word_embeddings": False,
    }
    config = GPT2Config.from_dict(PUBLISHED | values | {"eos_token_id": [3, 4], "n_ctx": 99, "attn_pdrop": 0.5})
    assert {name: getattr(config, name) for name in values} == values
    assert config.eos_token_ids == (3, 4)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model_type", "llama", 'model_type is "llama"'),
        ("architectures", ["LlamaForCausalLM"], "LlamaForCausalLM is not a GPT-2"),
        ("n_layer", "12", 'n_layer is "12", not an integer from 1 to 9999'),
        ("n_layer", 10**9, "n_layer is 1000000000"),
        ("n_embd", 0, "n_embd is 0"),
        ("n_embd", 2**40, "n_embd is 1099511627776, not a positive integer"),
        ("n_head", True, "n_head is true"),
        ("n_head", 7, "n_embd 768 is not a multiple of n_head 7"),
        ("n_inner", -1, "n_inner is -1"),
        ("vocab_size", 1.5, "vocab_size is 1.5"),
        ("layer_norm_epsilon", 0, "layer_norm_epsilon is 0"),
        ("layer_norm_epsilon", "small", 'layer_norm_epsilon is "small"'),
        ("scale_attn_weights", 1, "scale_attn_weights is 1, not true or false"),
        ("tie_word_embeddings", None, "tie_word_embeddings is null"),
        ("activation_function", {"a": []}, 'activation_function is {"a": []}, not one of gelu_new'),
        ("activation_function", "swiglu", 'activation_function is "swiglu", not one of gelu_new'),
        ("eos_token_id", "end", 'eos_token_id is "end"'),
        ("add_cross_attention", True, "add_cross_attention is set"),
        ("pruned_heads", {"0": [1]}, "pruned_heads is set"),
        ("quantization_config", {"bits": 4}, "quantization_config is set"),
        ("configuration_files", ["config.4.0.0.json"], "configuration_files is set"),
        ("is_causal", False, "is_causal is not true"),
        ("num_attention_heads", 6, "n_head is 12 but num_attention_heads is 6"),
        ("hidden_size", "768", 'n_embd is "768", not a positive integer'),
    ],
)
def test_wrong_field_is_named(field: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GPT2Config.from_dict(PUBLISHED | {field: value}, source="some/config.json")
    assert message in str(caught.value)
    assert "some/config.json" in str(caught.value)


def test_all_problems_are_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        GPT2Config.from_dict(PUBLISHED | {"n_layer": 0, "activation_function": "x", "pruned_heads": {"1": [0]}})
    assert all(name in str(caught.value) for name in ("3 problems", "n_layer", "activation_function", "pruned_heads"))


def test_config_without_model_type_is_rejected() -> None:
    with pytest.raises(ConfigError, match="model_type is null"):
        GPT2Config.from_dict({})


def test_config_without_the_number_of_heads_is_rejected() -> None:
    with pytest.raises(ConfigError, match="n_head is missing"):
        GPT2Config.from_dict({name: value for name, value in PUBLISHED.items() if name != "n_head"})


SIZE = st.sampled_from([1, 2, 3, 4, 6, 12, 24])
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "n_embd": st.sampled_from([12, 24, 48]),
    "hidden_size": st.sampled_from([12, 24, 48]),
    **dict.fromkeys(("n_layer", "num_hidden_layers", "n_head", "num_attention_heads"), SIZE),
    **dict.fromkeys(("n_positions", "max_position_embeddings", "n_ctx", "vocab_size"), SIZE),
    "n_inner": st.none() | SIZE,
    "intermediate_size": SIZE,
    "activation_function": st.sampled_from([*ACTIVATIONS, "gelu_10", "sigmoid"]),
    "hidden_act": st.sampled_from(["relu", "gelu"]),
    "layer_norm_epsilon": st.sampled_from([1e-5, 1e-3, 0.25]),
    "layer_norm_eps": st.just(0.5),
    **dict.fromkeys(
        ("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "tie_word_embeddings"),
        st.booleans(),
    ),
    "is_causal": st.booleans(),
    "eos_token_id": st.none() | SIZE | st.lists(SIZE, max_size=3),
}


@given(st.fixed_dictionaries({}, optional=FIELDS))
def test_any_config_is_read_as_transformers_does_or_rejected(values: dict[str, Any]) -> None:
    """The rejected ones are those with an unknown activation, without causal attention, or with contradictory sizes."""
    theirs = transformers.GPT2Config(**values)
    clash = any(values.get(a, values.get(b)) != values.get(b, values.get(a)) for a, b in ALIASES.items())
    unsupported = values.get("activation_function") in ("gelu_10", "sigmoid") or not values.get("is_causal", True)
    headless = not values.keys() & {"n_head", "num_attention_heads"}
    try:
        ours = GPT2Config.from_dict({"model_type": "gpt2"} | values)
    except ConfigError:
        assert clash or unsupported or headless or theirs.n_embd % theirs.n_head
        return
    assert not any((clash, unsupported, headless))
    for name in asdict(ours).keys() - {"eos_token_ids"}:
        assert getattr(ours, name) == getattr(theirs, name), name
    ends = theirs.eos_token_id
    assert ours.eos_token_ids == tuple([] if ends is None else ends if isinstance(ends, list) else [ends])


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_malformed_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.json"):
        read_config(tmp_path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        read_config(tmp_path)


def test_generation_config_overrides_the_stop_tokens(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED | {"eos_token_id": 1}))
    assert read_config(tmp_path).eos_token_ids == (1,)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3]}))
    assert read_config(tmp_path).eos_token_ids == (2, 3)
    (tmp_path / "generation_config.json").write_text(json.dumps({"temperature": 1}))
    assert read_config(tmp_path).eos_token_ids == (1,)


def test_from_pretrained_reads_a_folder(tiny_original: Path) -> None:
    config = GPT2Config.from_pretrained(tiny_original)
    assert (config.n_embd, config.n_head, config.layer_norm_epsilon) == (24, 3, 3e-2)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("by_layer", [True, False])
def test_attention_scale_matches_transformers(scaled: bool, by_layer: bool) -> None:
    flags: dict[str, Any] = {
        "n_embd": 24,
        "n_head": 3,
        "scale_attn_weights": scaled,
        "scale_attn_by_inverse_layer_idx": by_layer,
    }
    theirs = transformers.models.gpt2.modeling_gpt2.GPT2Attention(transformers.GPT2Config(**flags), layer_idx=2)
    assert GPT2Config(**flags).attention_scale(2) == pytest.approx(theirs.scaling)


def test_every_activation_is_known_to_transformers() -> None:
    assert set(ACTIVATIONS) <= set(transformers.activations.ACT2FN)
