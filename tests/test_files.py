import json
import math
import os
from pathlib import Path

import pytest

from max_gpt2._files import check_writable, json_text, write_text
from max_gpt2.errors import RequestError


def test_a_file_is_written_as_others_are(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("1")
    write_text(new, "ä\n")
    assert new.read_bytes() == b"\xc3\xa4\n"
    assert new.stat().st_mode == old.stat().st_mode
    write_text(old, "2")
    assert old.read_text() == "2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(_self: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RequestError, match=r"report\.html could not be written .*No space left"):
        write_text(path, "new")
    assert [one.read_text() for one in tmp_path.iterdir()] == ["old"]


def test_what_cannot_be_written_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path / "report.html")
    with pytest.raises(RequestError, match="is a folder"):
        check_writable(tmp_path)
    with pytest.raises(RequestError, match=r"no folder .*/nowhere to write"):
        check_writable(tmp_path / "nowhere" / "report.html")
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    with pytest.raises(RequestError, match="may not be written to"):
        check_writable(tmp_path / "report.html")


def test_it_is_one_line_of_json_for_every_reader() -> None:
    value = {"a": ["ä\x85\u2028\u2029\n\x1c", {"b": 1.5}], "half": "\ud800"}
    text = json_text(value)
    assert json.loads(text) == value
    assert text.splitlines() == [text.encode().decode()]
    assert json_text({"a": "ä\u2028"}) == '{"a": "ä\\u2028"}'


def test_null_stands_for_what_is_not_finite() -> None:
    assert json_text({"a": [math.nan, -math.inf, 1.0]}) == '{"a": [null, null, 1.0]}'
