import json
import math
import os
from pathlib import Path

import pytest

from max_gpt2._files import check_writable, json_text, write_text
from max_gpt2.errors import RequestError


def test_written_file_is_utf_8_with_default_permissions(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("1")
    write_text(new, "ä\n")
    assert new.read_bytes() == b"\xc3\xa4\n"
    assert new.stat().st_mode == old.stat().st_mode
    write_text(old, "2")
    assert old.read_text() == "2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


def test_failed_write_preserves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(_self: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RequestError, match=r"report\.html could not be written .*No space left"):
        write_text(path, "new")
    assert [one.read_text() for one in tmp_path.iterdir()] == ["old"]


def test_unwritable_path_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path / "report.html")
    with pytest.raises(RequestError, match="is a folder"):
        check_writable(tmp_path)
    with pytest.raises(RequestError, match=r"the folder .*/nowhere does not exist"):
        check_writable(tmp_path / "nowhere" / "report.html")
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    with pytest.raises(RequestError, match="is not writable"):
        check_writable(tmp_path / "report.html")


def test_json_text_is_one_line_of_valid_utf_8() -> None:
    value = {"a": ["ä\x85\u2028\u2029\n\x1c", {"b": 1.5}], "half": "\ud800"}
    text = json_text(value)
    assert json.loads(text) == value
    assert text.splitlines() == [text.encode().decode()]
    assert json_text({"a": "ä\u2028"}) == '{"a": "ä\\u2028"}'


def test_nonfinite_numbers_are_null_in_json_text() -> None:
    assert json_text({"a": [math.nan, -math.inf, 1.0]}) == '{"a": [null, null, 1.0]}'
