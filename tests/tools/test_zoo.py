"""Every checkpoint of the zoo, compared in PyTorch instead of MAX, and the tool that writes docs/zoo.md."""

import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from fixtures.checkpoints import as_linear, reference_logits, reference_model
from fixtures.formats import linear_layout
from fixtures.zoo import ZOO, Fixture, broken
from fixtures.zoo.fixture import LAST, Group, Loads, input_ids, last_logits, saved
from max_gpt2.checkpoint import Checkpoint
from max_gpt2.verify.models import TorchImplementation
from tools import zoo
from tools.zoo import PAGE, read_rows, refused


@pytest.mark.parametrize("row", ZOO)
def test_checkpoint_has_the_documented_outcome(row: str, tmp_path: Path) -> None:
    fixture: Fixture = ZOO[row]
    model = fixture.build(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    outcome = read_rows(PAGE.read_text())[row]
    if model is None:
        assert outcome == refused(fixture.error_message(tmp_path))
    else:
        check_loaded(fixture.load(tmp_path), model, fixture.loads)
        assert outcome.startswith("equal: ")
    assert sorted(tmp_path.rglob("*")) == before  # no code was executed and nothing was written


def check_loaded(checkpoint: Checkpoint, model: nn.Module, loads: Loads) -> None:
    """Compare the plan, the weights (bitwise) and the logits of transformers with the expected ones."""
    assert Loads.as_planned(checkpoint.plan) == loads
    weights = linear_layout(model)
    zeros = checkpoint.plan.zero_filled.keys()
    assert checkpoint.state_dict.keys() == weights.keys() | zeros
    for name, value in as_linear(checkpoint.state_dict).items():
        np.testing.assert_array_equal(value, weights.get(name, np.zeros_like(value)), err_msg=name)
    ids = input_ids(checkpoint)
    expected = last_logits(model, ids)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(TorchImplementation(checkpoint).logits(ids)[:, -LAST:], expected, rtol=0, atol=1e-5)
    if loads.by_transformers:
        np.testing.assert_array_equal(TorchImplementation(checkpoint.folder).logits(ids)[:, -LAST:], expected)


def test_page_has_exactly_the_registered_rows() -> None:
    assert list(read_rows(PAGE.read_text())) == [row for group in Group for row in ZOO if ZOO[row].group is group]


def test_hostile_pickle_executes_code_when_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(broken.Code(tmp_path)))
    assert (tmp_path / broken.RAN).is_dir()


class FakeCompiledModel:
    """A stand-in for the compiled model: PyTorch's logits plus `error`."""

    def __init__(self, error: float) -> None:
        self._error = np.float32(error)

    def logits(self, ids: np.ndarray, first: int) -> np.ndarray:
        return reference_logits(reference_model(n_positions=150), ids)[:, first:] + self._error


@pytest.mark.parametrize(("error", "expected"), [(0, "equal: 0.0e+00"), (0.25, "NOT EQUAL: 2.5e-01")])
def test_outcome_reports_the_largest_difference(monkeypatch: pytest.MonkeyPatch, error: float, expected: str) -> None:
    monkeypatch.setattr(zoo, "load_or_compile", lambda _config, _weights: FakeCompiledModel(error))
    long = Fixture(Group.FLAGS, "", lambda folder: saved(folder, reference_model(n_positions=150)))
    assert zoo.outcome(long) == expected


def test_outcome_reports_unexpected_results() -> None:
    def loads(folder: Path) -> None:
        saved(folder)

    def is_refused(folder: Path) -> nn.Module:
        model = saved(folder)
        (folder / "config.json").unlink()
        return model

    assert zoo.outcome(Fixture(Group.BROKEN, "", loads)) == "NOT REFUSED"
    assert zoo.outcome(Fixture(Group.KNOWN, "", is_refused)).startswith("NOT LOADED: FOLDER has no config.json.")


def test_rows_are_added_without_touching_other_rows() -> None:
    page = PAGE.read_text()
    (line,) = [line for line in page.splitlines(keepends=True) if line.startswith("| ggml before GGUF |")]
    assert zoo.with_new_rows(page.replace(line, "")) == page


def test_messages_are_updated_without_touching_other_rows() -> None:
    page = PAGE.read_text()
    stale = re.sub(r"^(\| NaN \| refused: )`.*` \|$", r"\1`an old message` |", page, flags=re.MULTILINE)
    assert stale != page
    assert zoo.with_current_messages(stale) == page


@pytest.mark.parametrize(("outcome", "code"), [("equal: 1.0e-07", 0), ("NOT EQUAL: 1.0e-03", 1)])
def test_main_writes_the_page_for_all_rows(
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
