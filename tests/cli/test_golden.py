"""`max-gpt2 golden`; tests/scoring/test_golden.py checks the numbers."""

import json
from pathlib import Path

import pytest

from fixtures.checkpoints import TEXT
from tests.support.cli import Cli, refused
from tools.make_golden import make_claims, write_claims


@pytest.fixture(scope="module")
def claims(tiny_original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Claims about the tiny checkpoint that transformers made, and one that needs data."""
    path = tmp_path_factory.mktemp("claims") / "tiny.json"
    data = {"kind": "data", "expected": {"acc": 0.5}, "source": "a paper", "note": "A task: needs its data."}
    write_claims(path, [*make_claims(tiny_original, "tiny", (TEXT[:40],)), data])
    return path


def test_true_claims_exit_with_0(cli: Cli, claims: Path, tiny_original: Path) -> None:
    outcome = cli("golden", "--model", tiny_original, "--claims", claims, "--json")
    assert outcome.code == 0, outcome.out
    result = json.loads(outcome.out)
    assert (result["passed"], result["failed"], result["not_run"]) == (8, 0, 1)
    assert [one["verdict"] for one in result["claims"]] == ["pass"] * 8 + ["not run"]
    for one in result["claims"]:
        assert one.keys() >= {"kind", "source", "expected", "ours", "difference", "tolerance", "problem", "claim"}


def test_wrong_claim_exits_with_1(
    cli: Cli, claims: Path, tiny_original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("max_gpt2.cli.console.stdout._width", 200)
    content = json.loads(claims.read_text())
    loss = next(one for one in content["claims"] if one["kind"] == "mean_loss")
    published = loss["expected"] = loss["expected"] + 0.002
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(content))
    outcome = cli("golden", "--model", tiny_original, "--claims", changed)
    assert outcome.code == 1
    assert "7 passed, 1 failed, 1 not run." in outcome.out
    (line,) = [line for line in outcome.out.splitlines() if "FAIL" in line]
    assert f"{published:.4f}" in line
    assert "(difference 2.0e-03)" in line
    assert 'Not run, because they need data:\n  {"acc": 0.5} (a paper): A task: needs its data.\n' in outcome.out


def test_local_checkpoint_needs_a_name(cli: Cli, tiny_original: Path) -> None:
    message = refused(cli("golden", "--model", tiny_original))
    assert "is a local checkpoint, so it has no hub id" in message
    assert "--claims NAME. Known names: gpt2, " in message


def test_demo_meets_its_claims(cli: Cli) -> None:
    outcome = cli("golden", "--json")
    assert outcome.code == 0, outcome.out
    assert json.loads(outcome.out)["passed"] == 16
