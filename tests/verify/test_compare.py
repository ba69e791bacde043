import numpy as np
import pytest

from max_gpt2.verify import compare, compare_logits, worst
from max_gpt2.verify.compare import agreement

REFERENCE = np.random.default_rng(0).standard_normal((2, 5, 7)).astype(np.float32)


def moved(by: float, reference: np.ndarray = REFERENCE) -> np.ndarray:
    """Return the reference with one value changed by `by`."""
    other = reference.astype(np.float64)
    other[1, 2, 3] += by
    return other


def test_equal_arrays_have_no_difference() -> None:
    comparison = compare_logits(REFERENCE, REFERENCE)
    assert comparison.equal
    assert comparison.max_abs_diff == comparison.max_rel_diff == 0
    assert comparison.argmax_agreement == 1
    assert comparison.positions == 10


@pytest.mark.parametrize(("by", "equal"), [(0.9e-4, True), (-0.9e-4, True), (1.1e-4, False), (-1.1e-4, False)])
def test_absolute_tolerance_is_1e_4(by: float, equal: bool) -> None:
    comparison = compare(moved(by), REFERENCE)
    assert comparison.equal is equal
    assert comparison.max_abs_diff == pytest.approx(abs(by), rel=1e-3)
    assert ("max_abs_diff < 1e-04" in comparison.criterion) is equal


@pytest.mark.parametrize(("by", "equal"), [(0.9e-5, True), (1.1e-5, False)])
def test_large_values_use_the_relative_tolerance(by: float, equal: bool) -> None:
    large = REFERENCE.astype(np.float64) * 100 / np.abs(REFERENCE).max()
    comparison = compare(moved(by * 100, large), large)
    assert comparison.equal is equal
    assert comparison.max_abs_diff > 1e-4
    assert "of the largest value (100.0)" in comparison.criterion
    assert comparison.criterion.startswith("not <") is not equal


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("index", [0, 1])
def test_nonfinite_values_are_never_equal(value: float, index: int) -> None:
    arrays = [REFERENCE.copy(), REFERENCE.copy()]
    arrays[index][0, 0, 0] = value
    assert not compare(*arrays).equal
    both = arrays[index]
    assert not compare(both, both).equal


def test_argmax_agreement_is_a_fraction_of_positions() -> None:
    other = REFERENCE.copy()
    other[0, :2] = -other[0, :2]
    assert compare_logits(other, REFERENCE).argmax_agreement == pytest.approx(0.8)


def test_worst_and_agreement_combine_several_prompts() -> None:
    near, far = compare_logits(moved(1e-5), REFERENCE), compare_logits(moved(3e-4), REFERENCE)
    assert worst([near, far]) is far
    other = compare_logits(-REFERENCE[0, :1], REFERENCE[0, :1])
    assert other.argmax_agreement == 0
    assert agreement([near, other]) == pytest.approx(10 / 11)


def test_worst_prefers_a_failing_difference_over_a_larger_one() -> None:
    large = REFERENCE.astype(np.float64) * 1000
    near, apart = compare(moved(5e-4, large), large), compare(moved(2e-4), REFERENCE)
    assert near.equal
    assert not apart.equal
    assert worst([near, apart]) is apart
