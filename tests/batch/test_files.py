import resource
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from max_gpt2.batch import InputFile, OutputFile, Record
from max_gpt2.errors import RequestError

RUN: dict[str, Any] = {"command": "generate", "input": "1", "model": "2", "options": {"top_k": 1}}


@pytest.fixture
def source(tmp_path: Path) -> InputFile:
    path = tmp_path / "in.txt"
    path.write_text("a\nb\n\nc\nd\n")
    return InputFile.scan(path, "prompt")


def write(path: Path, source: InputFile, count: int, **options: Any) -> list[Record]:
    """Write up to `count` lines; return the records of an earlier run."""
    resumed: list[Record] = []
    with OutputFile(path, RUN, **options) as output:
        output.resume(source, resumed.append)
        output.begin()
        for number in islice(source.numbers(), output.done, output.done + count):
            output.write({"line": number, "text": "ä" * number, "seed": output.seed})
    return resumed


def test_second_run_resumes_with_the_seed_of_the_first(tmp_path: Path, source: InputFile) -> None:
    whole, path = tmp_path / "whole", tmp_path / "out"
    write(whole, source, 4, seed=5)
    assert write(path, source, 1, seed=5) == []
    assert [one["line"] for one in write(path, source, 2)] == [1]
    assert [one["line"] for one in write(path, source, 9, seed=5)] == [1, 2, 4]
    assert path.read_bytes() == whole.read_bytes()
    assert path.read_bytes().count(b"\n") == 4


def test_blank_lines_do_not_shift_the_lines_that_remain(tmp_path: Path, source: InputFile) -> None:
    path = tmp_path / "out"
    write(path, source, 3)
    with OutputFile(path, RUN) as output:
        output.resume(source, lambda _: None)
        assert [line.number for line in source.lines(output.last)] == [5]
        output.begin()
        output.write({"line": 5})
        assert (output.done, output.last) == (4, 5)


def test_incomplete_last_line_is_dropped(tmp_path: Path, source: InputFile) -> None:
    path = tmp_path / "out"
    write(path, source, 3, seed=5)
    content = path.read_bytes()
    path.write_bytes(content[:-4])
    assert len(write(path, source, 1)) == 2
    assert path.read_bytes() == content


def test_output_of_a_different_run_is_rejected_and_unchanged(
    tmp_path: Path, source: InputFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    write(path, source, 2, seed=5)
    content = path.read_bytes()
    for name, message in (
        ("input", "a different input"),
        ("model", "a different model"),
        ("command", "a different command"),
    ):
        monkeypatch.setitem(RUN, name, "9")
        with pytest.raises(RequestError, match=f"{message}.*--force"):
            write(path, source, 1)
        monkeypatch.undo()
    monkeypatch.setitem(RUN, "options", {"top_k": 2})
    with pytest.raises(RequestError, match=r"a different top_k \(1, now 2\)"):
        write(path, source, 1)
    assert path.read_bytes() == content
    assert write(path, source, 9, force=True, seed=5) == []
    monkeypatch.undo()
    with pytest.raises(RequestError, match=r"a different top_k \(2, now 1\)"):
        write(path, source, 1)


def test_different_seed_and_damaged_identity_are_rejected(tmp_path: Path, source: InputFile) -> None:
    path = tmp_path / "out"
    write(path, source, 2, seed=5)
    with pytest.raises(RequestError, match=r"a different seed \(5, now 6\)"):
        write(path, source, 1, seed=6)
    beside = tmp_path / "out.run.json"
    for damage in ("[", "[]", "{}", '{"seed": "x"}'):
        beside.write_text(damage)
        with pytest.raises(RequestError, match="is damaged"):
            write(path, source, 1)
    beside.unlink()
    with pytest.raises(RequestError, match=r"but out\.run\.json, which identifies its run, is missing"):
        write(path, source, 1)


@pytest.mark.parametrize("damage", [b"{}\n", b"nonsense\n", b'{"line": 3}\n', b'[{"line": 2}]\n'])
def test_changed_line_is_rejected_and_the_output_unchanged(tmp_path: Path, source: InputFile, damage: bytes) -> None:
    path = tmp_path / "out"
    write(path, source, 3)
    first, _, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + damage + third)
    with pytest.raises(RequestError, match=r"Line 2 of .* was changed"):
        write(path, source, 1)
    assert path.read_bytes() == first + damage + third


def test_more_lines_than_the_input_are_rejected(tmp_path: Path, source: InputFile) -> None:
    path = tmp_path / "out"
    write(path, source, 4)
    with path.open("ab") as file:
        file.write(b'{"line": 6}\n')
    with pytest.raises(RequestError, match=r"Line 5 of .* was changed"):
        write(path, source, 1)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Limit the size of files, like a full disk: a write beyond the limit is cut off, and the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_loses_no_complete_line(tmp_path: Path, source: InputFile) -> None:
    whole, path = tmp_path / "whole", tmp_path / "out"
    write(whole, source, 4, seed=5)
    lines = whole.read_bytes().splitlines(keepends=True)
    write(path, source, 1, seed=5)
    with (
        file_size_limit(len(lines[0] + lines[1]) + 7),
        pytest.raises(RequestError, match=r"cannot be written \(File too large\)\. It has 2 complete lines"),
    ):
        write(path, source, 3)
    assert path.read_bytes() == lines[0] + lines[1]
    write(path, source, 3)
    assert path.read_bytes() == whole.read_bytes()


def test_concurrent_runs_with_one_output_are_rejected(tmp_path: Path, source: InputFile) -> None:
    path = tmp_path / "out"
    with OutputFile(path, RUN) as output:
        output.begin()
        with pytest.raises(RequestError, match="Another run is writing"):
            write(path, source, 1)


def test_run_that_never_began_leaves_no_file(tmp_path: Path, source: InputFile) -> None:
    path = tmp_path / "out"
    with OutputFile(path, RUN):
        assert path.exists()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in.txt"]
    write(path, source, 2, seed=5)
    content = path.read_bytes()
    with OutputFile(path, RUN, force=True):
        pass
    assert path.read_bytes() == content


def test_old_lines_are_removed_before_the_new_identity_is_written(
    tmp_path: Path, source: InputFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    write(path, source, 2)

    def killed(*_arguments: object, **_options: object) -> None:
        assert path.read_bytes() == b""
        raise KeyboardInterrupt

    monkeypatch.setattr("max_gpt2.batch.files.write_identity", killed)
    with pytest.raises(KeyboardInterrupt):
        write(path, source, 2, force=True)


def test_unwritable_output_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    for path, message in ((tmp_path / "full", "not a regular file"), (tmp_path, "is a folder")):
        with pytest.raises(RequestError, match=message):
            OutputFile(path, RUN)

    def denied(*_arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", denied)
    with pytest.raises(RequestError, match=r"out cannot be written \(Permission denied\)"):
        OutputFile(tmp_path / "out", RUN)
