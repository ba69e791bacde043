import pytest

from max_gpt2.checkpoint import load_checkpoint
from tools import verify_sizes


def test_size_is_verified_in_a_separate_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the shape of the demo, which MAX has already compiled."""
    monkeypatch.setattr(verify_sizes, "SIZES", {"small": load_checkpoint("demo").config})
    report = verify_sizes.verify("small")
    assert report["passed"]
    assert 20e6 < report["file_bytes"] < 30e6
    assert 0.2e9 < report["peak_memory_bytes"] < 8e9
    cells = verify_sizes.row("small", report).split("|")
    assert cells[1].strip() == "`small`"
    assert cells[-2].strip() == "equal"


def test_row_of_a_failed_verification() -> None:
    timing = {"load_s": 1.0, "compile_s": 2.0, "reference_s": 3.0}
    report = {"passed": False, "max_abs_diff": 0.5, "argmax_agreement": 0.25, "greedy_match": False, "timing": timing}
    row = verify_sizes.row("gpt2", report | {"file_bytes": 2**29, "peak_memory_bytes": 2**30})
    assert row == "| `gpt2` | 0.50 GiB | 5.0e-01 | 25.00% | no | 1.0 s | 2 s | 1.0 GiB | NOT EQUAL |"
