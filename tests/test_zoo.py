"""The zoo up to where MAX would compile; `make zoo` goes on from there and writes docs/zoo.md."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from max_gpt2.checkpoint import Checkpoint
from max_gpt2.verify.models import TorchImplementation
from tests.checkpoints import as_linear, reference_logits, reference_model
from tests.other_formats import linear_layout
from tests.zoo import ZOO, Fixture, broken
from tests.zoo.fixture import LAST, Group, Loads, answer, question, saved
from tools import zoo
from tools.zoo import PAGE, read_rows, refused


@pytest.mark.parametrize("row", ZOO)
def test_a_checkpoint_is_what_it_has_to_be_or_is_refused(row: str, tmp_path: Path) -> None:
    fixture: Fixture = ZOO[row]
    model = fixture.build(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    outcome = read_rows(PAGE.read_text())[row]
    if model is None:
        assert outcome == refused(fixture.refusal(tmp_path))
    else:
        check_loaded(fixture.load(tmp_path), model, fixture.loads)
        assert outcome.startswith("equal: ")
    assert sorted(tmp_path.rglob("*")) == before  # no code ran, and nothing was written


def check_loaded(checkpoint: Checkpoint, model: nn.Module, loads: Loads) -> None:
    """Compare plan and weights, bit for bit, and what transformers computes with each reading of the checkpoint."""
    assert Loads.as_planned(checkpoint.plan) == loads
    weights = linear_layout(model)
    zeros = checkpoint.plan.zero_filled.keys()
    assert checkpoint.state_dict.keys() == weights.keys() | zeros
    for name, value in as_linear(checkpoint.state_dict).items():
        np.testing.assert_array_equal(value, weights.get(name, np.zeros_like(value)), err_msg=name)
    ids = question(checkpoint)
    expected = answer(model, ids)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(TorchImplementation(checkpoint).logits(ids)[:, -LAST:], expected, rtol=0, atol=1e-5)
    if loads.by_transformers:
        np.testing.assert_array_equal(TorchImplementation(checkpoint.folder).logits(ids)[:, -LAST:], expected)


def test_the_page_has_every_row_and_no_other() -> None:
    assert list(read_rows(PAGE.read_text())) == [row for group in Group for row in ZOO if ZOO[row].group is group]


def test_the_code_in_the_pickle_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(broken.Code(tmp_path)))
    assert (tmp_path / broken.RAN).is_dir()


class PyTorchFor:
    """Stands in for what MAX compiles: PyTorch's logits, and `error` more."""

    def __init__(self, error: float) -> None:
        self._error = np.float32(error)

    def logits(self, ids: np.ndarray, first: int) -> np.ndarray:
        return reference_logits(reference_model(n_positions=150), ids)[:, first:] + self._error


@pytest.mark.parametrize(("error", "says"), [(0, "equal: 0.0e+00"), (0.25, "NOT EQUAL: 2.5e-01")])
def test_make_zoo_says_how_far_max_is_away(monkeypatch: pytest.MonkeyPatch, error: float, says: str) -> None:
    monkeypatch.setattr(zoo, "compile_model", lambda _config, _state_dict: PyTorchFor(error))
    long = Fixture(Group.FLAGS, "", lambda folder: saved(folder, reference_model(n_positions=150)))
    assert zoo.outcome(long) == says


def test_make_zoo_says_what_is_not_as_it_has_to_be() -> None:
    def loads(folder: Path) -> None:
        saved(folder)

    def is_refused(folder: Path) -> nn.Module:
        model = saved(folder)
        (folder / "config.json").unlink()
        return model

    assert zoo.outcome(Fixture(Group.BROKEN, "", loads)) == "NOT REFUSED"
    assert zoo.outcome(Fixture(Group.KNOWN, "", is_refused)).startswith("NOT LOADED: FOLDER has no config.json.")


@pytest.mark.parametrize(("outcome", "code"), [("equal: 1.0e-07", 0), ("NOT EQUAL: 1.0e-03", 1)])
def test_make_zoo_writes_the_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcome: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "zoo.md"
    monkeypatch.setattr(zoo, "PAGE", page)
    monkeypatch.setattr(zoo, "outcome", lambda fixture: outcome if fixture.row == "sharded" else "refused: `a | b`")
    for arguments, written in ((["sharded"], False), ([], True)):
        monkeypatch.setattr(sys, "argv", ["zoo", *arguments])
        with pytest.raises(SystemExit) as left:
            zoo.main()
        assert left.value.code == code
        assert page.exists() == written
    rows = read_rows(page.read_text())
    assert rows.keys() == ZOO.keys()
    assert (rows["sharded"], rows["NaN"]) == (outcome, "refused: `a | b`")
    assert f"sharded: {outcome}\n" in capsys.readouterr().out
