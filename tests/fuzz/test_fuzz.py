import sys
from pathlib import Path

import pytest

from tests.fuzz.runner import Fuzzer

pytestmark = pytest.mark.slow

CASES = 5_000


@pytest.mark.skipif(sys.platform != "linux", reason="the memory limit needs Linux")
def test_damaged_checkpoints_are_rejected_or_loaded_correctly(tmp_path: Path) -> None:
    fuzzer = Fuzzer(tmp_path)
    fuzzer.run(CASES, seed=0)
    fuzzer.close()
    assert not fuzzer.findings, fuzzer.report()
    assert fuzzer.count >= CASES
