"""Weights in the types of the file, and converted to a requested type."""

from pathlib import Path
from typing import Any, cast

import gguf
import ml_dtypes
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from fixtures.checkpoints import Tensors, assert_same, edit_weights, write_checkpoint
from fixtures.formats import linear_state, write_gguf
from max_gpt2.checkpoint import LoadOptions, inspect_checkpoint, load_checkpoint, load_weights
from max_gpt2.checkpoint.layout import is_conv1d
from max_gpt2.checkpoint.weight_types import is_matrix, type_bytes
from max_gpt2.errors import CheckpointError, RequestError
from max_gpt2.weights import Quantised, Weight
from max_gpt2.weights.memory import is_mapped
from max_gpt2.weights.quantise import float32, type_of, weight_bytes
from max_gpt2.weights.types import WeightsOption
from tests.weights.test_panels import K_QUANTS, LEGACY, random_blocks

WTE, HEAD, WPE = "transformer.wte.weight", "lm_head.weight", "transformer.wpe.weight"
SQUARE = "transformer.h.1.attn.c_proj.weight"
FLOATS: dict[str, Any] = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
#: Rows of a multiple of 32 values, but not of 256.
WIDE = {"n_embd": 96, "n_layer": 2, "n_inner": 160}


@pytest.fixture(scope="module")
def wide() -> Tensors:
    return linear_state(**WIDE)


def load(path: Path, weights: WeightsOption) -> dict[str, Weight]:
    return load_weights(inspect_checkpoint(path)[2], weights)


def in_dtype(folder: Path, dtype: Any) -> Tensors:
    """Store a checkpoint in a dtype; return its tensors."""
    stored: Tensors = {}

    def convert(tensors: Tensors) -> None:
        tensors.update({name: value.astype(dtype) for name, value in tensors.items()})
        stored.update(tensors)

    edit_weights(folder, convert)
    return stored


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_auto_maps_half_precision_in_place(tiny: Path, dtype: str) -> None:
    stored = in_dtype(tiny, FLOATS[dtype])
    weights = cast(Tensors, load(tiny, "auto"))
    assert weights[HEAD] is weights[WTE]
    for name, value in stored.items():
        assert weights[name].dtype == (FLOATS[dtype] if is_matrix(name) else np.float32), name
        np.testing.assert_array_equal(weights[name].astype(np.float32), value.astype(np.float32), err_msg=name)
        assert is_mapped(weights[name]) == is_matrix(name), name


def test_auto_maps_float32_in_place(tiny: Path) -> None:
    weights = cast(Tensors, load(tiny, "auto"))
    assert all(value.dtype == np.float32 and is_mapped(value) for value in weights.values())


def test_auto_transposes_half_precision_of_gguf_without_changing_its_type(tmp_path: Path, wide: Tensors) -> None:
    file = write_gguf(tmp_path / "gpt2.gguf", wide, quantised=GGMLQuantizationType.F16)
    weights = cast(Tensors, load(file, "auto"))
    np.testing.assert_array_equal(weights[SQUARE], wide[SQUARE].T.astype(np.float16))
    assert weights[SQUARE].flags.c_contiguous
    assert is_mapped(weights[WTE])
    assert weights[WTE].dtype == np.float16
    assert weights[WPE].dtype == np.float32


@pytest.mark.parametrize("type_", LEGACY)
def test_auto_keeps_the_blocks_of_gguf(tmp_path: Path, wide: Tensors, type_: str) -> None:
    kind = GGMLQuantizationType[type_]
    file = write_gguf(tmp_path / "gpt2.gguf", wide, quantised=kind)
    weights, dequantised = load(file, "auto"), load_checkpoint(file).state_dict
    table = weights[WTE]
    assert isinstance(table, Quantised)
    assert is_mapped(table.data)
    np.testing.assert_array_equal(table.data, gguf.quants.quantize(wide[WTE], kind))
    for name, weight in weights.items():
        assert isinstance(weight, Quantised) == is_matrix(name), name
        assert weight.shape == dequantised[name].shape, name
        np.testing.assert_array_equal(float32(weight), dequantised[name], err_msg=name)
        assert weight_bytes(weight) == type_bytes(name, type_of(weight), weight.shape), name


def k_quant_file(folder: Path, types: dict[str, str]) -> Path:
    weights = linear_state(n_embd=256, n_layer=1, n_head=4, n_inner=512)
    blocks = {
        name: (random_blocks(type_, value.shape[1], value.shape[0]), GGMLQuantizationType[type_])
        for name, value in weights.items()
        if (type_ := types.get(name, types["*"])) != "F32" and is_matrix(name) and name != HEAD
    }
    return write_gguf(folder / "gpt2.gguf", weights, 4, blocks=blocks)


def test_auto_keeps_k_quants_and_dequantises_types_without_a_kernel(tmp_path: Path) -> None:
    c_fc = "transformer.h.0.mlp.c_fc.weight"
    file = k_quant_file(tmp_path, {"*": "Q4_K", WTE: "Q6_K", c_fc: "Q3_K"})
    plan = inspect_checkpoint(file, LoadOptions(weights="auto"))[2]
    weights = load_weights(plan)
    assert {type_of(value) for name, value in weights.items() if is_conv1d(name) and name != c_fc} == {"Q4_K"}
    assert (type_of(weights[HEAD]), type_of(weights[c_fc])) == ("Q6_K", "F32")
    assert plan.dequantised == {"blk.0.ffn_up.weight": "Q3_K, dequantised to float32"}
    assert plan.rounded == {}
    assert_same({name: float32(one) for name, one in weights.items()}, load_checkpoint(file).state_dict, atol=0)


@pytest.mark.parametrize("type_", K_QUANTS)
def test_a_k_quant_keeps_the_tensors_that_have_it(tmp_path: Path, type_: str) -> None:
    file = k_quant_file(tmp_path, {"*": type_, WTE: "Q6_K"})
    weights = load(file, cast(WeightsOption, type_.lower()))
    assert {type_of(value) for name, value in weights.items() if is_conv1d(name)} == {type_}
    assert type_of(weights[WTE]) == "Q6_K"


def test_head_that_llama_cpp_stored_in_q6_k_is_kept_beside_narrower_types(tmp_path: Path) -> None:
    weights = load(k_quant_file(tmp_path, {"*": "Q4_0", WTE: "Q6_K"}), "q4_0")
    assert {type_of(value) for name, value in weights.items() if is_conv1d(name)} == {"Q4_0"}
    assert type_of(weights[HEAD]) == "Q6_K"


def test_k_quants_are_not_made(tmp_path: Path, wide: Tensors) -> None:
    file = k_quant_file(tmp_path, {"*": "F32"})
    with pytest.raises(RequestError, match=r"token_embd.weight in .* is F32 and cannot be converted to Q6_K.*quantize"):
        inspect_checkpoint(file, LoadOptions(weights="q4_k"))
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    file = k_quant_file(mixed, {"*": "Q4_K", WTE: "Q6_K", "transformer.h.0.mlp.c_proj.weight": "Q5_K"})
    with pytest.raises(RequestError, match=r"ffn_down.weight in .* is Q5_K and cannot be converted to Q4_K.*Use auto"):
        load(file, "q4_k")
    # Rows of 96 and 160 values become the types that llama.cpp falls back to, which can be made.
    file = write_gguf(tmp_path / "wide.gguf", wide, tokenizer=False)
    weights = load(file, "q4_k")
    assert {type_of(value) for name, value in weights.items() if is_conv1d(name)} == {"Q5_0"}
    assert type_of(weights[HEAD]) == "Q8_0"


@pytest.mark.parametrize("weights", ["float16", "bfloat16", *[name.lower() for name in LEGACY]])
@pytest.mark.parametrize("gguf_file", [True, False])
def test_conversion_is_that_of_the_gguf_package(
    tmp_path: Path, wide: Tensors, weights: WeightsOption, gguf_file: bool
) -> None:
    """The same from [out, in] and from Hugging Face's [in, out]; every tensor by its own oracle."""
    path = write_gguf(tmp_path / "a.gguf", wide) if gguf_file else write_checkpoint(tmp_path, **WIDE)
    type_ = {"float16": "F16", "bfloat16": "BF16"}.get(weights, weights.upper())
    plan = inspect_checkpoint(path, LoadOptions(weights=weights))[2]
    for name, weight in load_weights(plan).items():
        if not is_matrix(name):
            assert type_of(weight) == "F32"
            continue
        expected_type = "Q8_0" if name in (WTE, HEAD) and type_[:2] in ("Q4", "Q5") else type_
        assert type_of(weight) == expected_type
        kind = GGMLQuantizationType[expected_type]
        expected = gguf.quants.dequantize(gguf.quants.quantize(wide[name], kind), kind)
        np.testing.assert_array_equal(float32(weight), expected.T if is_conv1d(name) else expected, err_msg=name)
    assert set(plan.rounded.values()) >= {f"F32, rounded to {type_}"}
    assert plan.upcast == []


def test_rows_that_a_type_does_not_divide_become_float16(tiny: Path) -> None:
    weights = load(tiny, "q8_0")  # rows of 24 and 96 values
    assert {name: type_of(weights[f"transformer.h.0.{name}.weight"]) for name in ("mlp.c_fc", "mlp.c_proj")} == {
        "mlp.c_fc": "F16",
        "mlp.c_proj": "Q8_0",
    }


def test_float32_is_exact_and_says_nothing(tiny: Path) -> None:
    stored = in_dtype(tiny, np.float16)
    plan = inspect_checkpoint(tiny, LoadOptions(weights="float32"))[2]
    assert plan.rounded == {}
    assert set(plan.upcast) == set(stored)
    assert inspect_checkpoint(tiny, LoadOptions(weights="auto"))[2].upcast == [
        name for name in plan.upcast if not is_matrix(name)
    ]


def test_merged_adapter_is_float32_beside_the_types_of_the_file(tiny: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from fixtures.checkpoints import reference_model

    stored = in_dtype(tiny, np.float16)
    peft = get_peft_model(reference_model(), LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    peft.save_pretrained(str(tmp_path / "adapter"))
    plan = inspect_checkpoint(tiny, LoadOptions.from_keywords(weights="auto", adapters=[tmp_path / "adapter"]))[2]
    weights = load_weights(plan)
    for name in stored:
        if is_matrix(name):
            assert type_of(weights[name]) == ("F32" if "c_attn" in name else "F16"), name


def test_builtin_kernels_compute_with_float32() -> None:
    assert LoadOptions(kernels="builtin", weights="auto").weights == "float32"
    with pytest.raises(RequestError, match="builtin kernels compute with float32 weights, not q8_0"):
        LoadOptions(kernels="builtin", weights="q8_0")


def test_unknown_type_is_refused() -> None:
    with pytest.raises(RequestError, match=r"type of weights 'q3_k' is unknown. Use one of auto, float32"):
        LoadOptions(weights=cast(WeightsOption, "q3_k"))


class TestNonfinite:
    @pytest.mark.parametrize("weights", ["auto", "float16", "q8_0", "q4_0"])
    def test_nan_is_refused_by_name(self, tiny: Path, weights: WeightsOption) -> None:
        def spoil(tensors: Tensors) -> None:
            tensors["transformer.h.0.mlp.c_proj.weight"][5, 3:5] = np.nan

        edit_weights(tiny, spoil)
        with pytest.raises(CheckpointError, match=r"h.0.mlp.c_proj.weight has 2 values that are NaN or infinite"):
            load(tiny, weights)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_nan_in_half_precision_is_refused(self, tiny: Path, dtype: str) -> None:
        in_dtype(tiny, FLOATS[dtype])
        edit_weights(tiny, lambda tensors: tensors[WTE].__setitem__((310, 23), -np.inf))
        with pytest.raises(CheckpointError, match=r"wte.weight has 1 values that are NaN or infinite"):
            load(tiny, "auto")

    @pytest.mark.parametrize("type_", [*LEGACY, *K_QUANTS])
    @pytest.mark.parametrize("name", [WTE, "transformer.h.0.mlp.c_proj.weight"])
    def test_nan_scale_is_refused_by_name(self, tmp_path: Path, type_: str, name: str) -> None:
        file = k_quant_file(tmp_path, {"*": "F32", name: type_})
        content, length = bytearray(file.read_bytes()), 256 if type_ in K_QUANTS else 32
        outputs, inputs = (311, 256) if name == WTE else (256, 512)
        scale = {"Q6_K": 208, "Q8_0": 0, "Q4_0": 0, "Q5_0": 0}.get(type_, 2)  # the minimum if there is one
        at = content.index(random_blocks(type_, inputs, outputs).tobytes()) + scale
        content[at : at + 2] = np.float16(np.inf).tobytes()
        file.write_bytes(content)
        stored = "token_embd.weight" if name == WTE else "blk.0.ffn_down.weight"
        for weights in cast(list[WeightsOption], ["auto", "float32"]):
            with pytest.raises(CheckpointError, match=rf"{stored} has {length} values that are NaN or infinite"):
                load(file, weights)
        loaded = load_weights(inspect_checkpoint(file)[2], "auto", allow_nonfinite=True)
        assert np.count_nonzero(~np.isfinite(float32(loaded[name]))) == length

    @pytest.mark.parametrize(("weights", "type_"), [("float16", "F16"), ("q8_0", "Q8_0")])
    def test_overflow_names_the_tensor_and_the_type(self, tmp_path: Path, weights: WeightsOption, type_: str) -> None:
        folder = write_checkpoint(tmp_path, **WIDE)

        def enlarge(tensors: Tensors) -> None:
            tensors[SQUARE][3, 7] = 1e9

        edit_weights(folder, enlarge)
        with pytest.raises(CheckpointError, match=rf"c_proj.weight has values that are too large for {type_}. Use bf"):
            load(folder, weights)
        load(folder, "bfloat16")
