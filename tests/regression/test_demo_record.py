"""The demo checkpoint generates the recorded output, and the JSON of the commands has the recorded keys."""

import json
from pathlib import Path
from typing import Any

import pytest

from max_gpt2 import GPT2
from tests.regression.demo_record import COMMANDS, RECORD, generated, json_keys
from tests.support.cli import Cli

RECORDED: dict[str, Any] = json.loads(RECORD.read_text())
PARTS = sorted(RECORDED.keys() - {"json_keys"})


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return generated(GPT2.from_pretrained("demo"))


def assert_equal(found: Any, recorded: Any) -> None:
    """Assert that JSON values are equal, floats within 1e-4."""
    if isinstance(recorded, dict):
        assert found.keys() == recorded.keys()
        for name, one in recorded.items():
            assert_equal(found[name], one)
    elif isinstance(recorded, list):
        assert len(found) == len(recorded)
        for ours, one in zip(found, recorded, strict=True):
            assert_equal(ours, one)
    elif isinstance(recorded, float):
        assert found == pytest.approx(recorded, rel=1e-4, abs=1e-4)
    else:
        assert found == recorded


@pytest.mark.parametrize("part", PARTS)
def test_demo_output_matches_the_record(found: dict[str, Any], part: str) -> None:
    assert found.keys() == set(PARTS)
    assert_equal(found[part], RECORDED[part])


@pytest.mark.parametrize("command", COMMANDS)
def test_json_keys_match_the_record(cli: Cli, tmp_path: Path, command: str) -> None:
    keys = json_keys(command, tmp_path, lambda arguments: cli(*arguments).out)
    assert keys == RECORDED["json_keys"][command]


def test_record_is_small() -> None:
    assert RECORD.stat().st_size < 40_000
