"""Conversions between types of weights agree with the gguf package and ml_dtypes."""

import gguf
import ml_dtypes
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from max_gpt2.weights import Quantised
from max_gpt2.weights.panels import pack_panels
from max_gpt2.weights.quantise import MAKEABLE, fitting_type, float32, quantise, type_of, weight_bytes
from tests.weights.test_panels import QUANTISED, random_blocks, reference

VALUES = np.random.default_rng(0).standard_normal((45, 96), dtype=np.float32)


@pytest.mark.parametrize("type_", MAKEABLE)
def test_float32_inverts_quantise_as_gguf_does(type_: str) -> None:
    kind = GGMLQuantizationType[type_]
    expected = gguf.quants.dequantize(gguf.quants.quantize(VALUES, kind), kind)
    made = quantise(VALUES, type_)
    weight = Quantised(type_, VALUES.shape, made) if made.dtype == np.uint8 else made
    np.testing.assert_array_equal(float32(weight), expected)
    assert type_of(weight) == type_
    assert weight_bytes(weight) == gguf.quants.quantize(VALUES, kind).nbytes
    if isinstance(weight, Quantised):
        np.testing.assert_array_equal(float32(pack_panels(type_, made)), expected.T)


@pytest.mark.parametrize("type_", QUANTISED)
def test_float32_of_a_table_is_that_of_gguf(type_: str) -> None:
    rows = random_blocks(type_, 512, 11)
    np.testing.assert_array_equal(float32(Quantised(type_, (11, 512), rows)), reference(type_, rows).T)


def test_float32_array_is_not_copied_and_a_signalling_nan_does_not_warn() -> None:
    assert float32(VALUES) is VALUES
    signalling = np.array([0x7F81], np.uint16).view(ml_dtypes.bfloat16)
    assert np.isnan(float32(signalling)).all()


@pytest.mark.parametrize(
    ("type_", "length", "expected"),
    [
        ("Q4_K", 768, "Q4_K"),
        ("Q4_K", 1600, "Q5_0"),  # gpt2-xl
        ("Q5_K", 1600, "Q5_1"),
        ("Q6_K", 1600, "Q8_0"),
        ("Q6_K", 40, "F16"),
        ("Q4_0", 1600, "Q4_0"),
        ("Q8_0", 40, "F16"),
        ("BF16", 7, "BF16"),
    ],
)
def test_fallback_is_that_of_llama_cpp(type_: str, length: int, expected: str) -> None:
    assert fitting_type(type_, length) == expected


@pytest.mark.parametrize("type_", ["F16", "Q8_0"])
def test_overflow_is_infinite_and_does_not_warn(type_: str) -> None:
    made = quantise(np.full((1, 32), 1e38, np.float32), type_)
    weight = Quantised(type_, (1, 32), made) if made.dtype == np.uint8 else made
    assert not np.isfinite(float32(weight)).any()
