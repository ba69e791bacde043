"""The zoo up to where MAX would compile; `make zoo` goes on from there and writes docs/zoo.md."""

from pathlib import Path

import numpy as np
import pytest

from max_gpt2.verify.reference import Reference
from tests.checkpoints import random_ids
from tests.zoo import ZOO, Fixture, broken
from tools.zoo import PAGE, read_rows, refused

IDS = random_ids(1, 50, vocab=300)


@pytest.mark.parametrize("row", ZOO)
def test_a_checkpoint_is_what_it_has_to_be_or_is_refused(row: str, tmp_path: Path) -> None:
    """What loads is put into transformers' model, and computes what the model computes that it was made from."""
    fixture: Fixture = ZOO[row]
    logits = fixture.build(tmp_path)
    outcome = read_rows(PAGE.read_text())[row]
    if logits is None:
        assert outcome == refused(fixture.refusal(tmp_path))
        assert not (tmp_path / broken.RAN).exists()
        return
    expected = logits(IDS)
    np.testing.assert_allclose(Reference(fixture.load(tmp_path)).logits(IDS), expected, rtol=0, atol=1e-5)
    assert np.abs(expected).max() > 1
    assert outcome.startswith("equal: ")


def test_the_page_has_every_row_and_no_other() -> None:
    assert read_rows(PAGE.read_text()).keys() == ZOO.keys()
