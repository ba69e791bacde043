"""A converted folder appears complete or not at all, and no other file changes."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from fixtures.checkpoints import Tensors, edit_config, edit_weights
from max_gpt2.checkpoint import LoadOptions, load_checkpoint
from max_gpt2.checkpoint import convert as run
from max_gpt2.checkpoint.convert import convert
from max_gpt2.errors import CheckpointError, DestinationError, MaxGPT2Error
from tests.support.sources import contents, llmc

FILES = {
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
}


def error_message(source: Path, target: Path | str, force: bool = False) -> str:
    """Return the error of a rejected conversion; assert that the parent folder is unchanged."""
    above = Path(os.path.realpath(target)).parent
    before = sorted(path.name for path in above.iterdir()) if above.is_dir() else []
    with pytest.raises(DestinationError) as caught:
        convert(source, target, force=force)
    assert (sorted(path.name for path in above.iterdir()) if above.is_dir() else []) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def fail_at(error: BaseException, share: float) -> Callable[[int, int], None]:
    """Return a progress callback that raises when this share of the bytes is written."""

    def progress(done: int, total: int) -> None:
        if done >= share * total:
            raise error

    return progress


def test_converted_folder_has_default_permissions(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "file").touch()
    new = convert(tiny, tmp_path / "new").folder
    assert {path.name for path in new.iterdir()} == FILES
    assert new.stat().st_mode == (tmp_path / "made").stat().st_mode
    assert {path.stat().st_mode for path in new.iterdir()} == {(tmp_path / "made" / "file").stat().st_mode}


@pytest.mark.parametrize("folders_sync", [True, False])
def test_folder_is_renamed_after_all_files_are_synced(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders_sync: bool
) -> None:
    synced: list[tuple[str, bool]] = []

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((path.name, (tmp_path / "new").exists()))
        if path.is_dir() and not folders_sync:  # as on file systems that cannot sync folders
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    convert(tiny, tmp_path / "new")
    files, (partial, _), above = synced[:-2], synced[-2], synced[-1]
    assert {name for name, _ in files} == FILES
    assert (files[0][0], files[-1][0]) == ("model.safetensors", "config.json")
    assert partial.startswith(".new.partial-")
    assert not any(named for _, named in synced[:-1])
    assert above == (tmp_path.name, True)


def test_progress_is_reported_in_bytes(tiny: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    done = convert(tiny, tmp_path / "new", progress=lambda done, total: calls.append((done, total)))
    assert len(calls) == done.tensors == 40
    assert calls == sorted(calls)
    assert {total for _, total in calls} == {4 * 30792} == {calls[-1][0]}


class TestInterrupted:
    @pytest.mark.parametrize("share", [0, 0.5, 1])
    @pytest.mark.parametrize("error", [ZeroDivisionError("oh"), KeyboardInterrupt(), MemoryError()])
    def test_exception_leaves_nothing_behind(
        self, tiny: Path, tmp_path: Path, error: BaseException, share: float
    ) -> None:
        with pytest.raises(type(error)):
            convert(tiny, tmp_path / "new", progress=fail_at(error, share))
        assert list(tmp_path.iterdir()) == [tiny]

    @pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
    def test_exception_after_the_weights_leaves_nothing_behind(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        write = run.write_synced

        def stop(path: Path, chunks: list[bytes]) -> None:
            write(path, chunks)
            if path.name == name:
                raise KeyboardInterrupt

        monkeypatch.setattr(run, "write_synced", stop)
        with pytest.raises(KeyboardInterrupt):
            convert(tiny, tmp_path / "new")
        assert list(tmp_path.iterdir()) == [tiny]

    def test_damaged_weights_leave_nothing_behind(self, tiny: Path, tmp_path: Path) -> None:
        def spoil(tensors: Tensors) -> None:
            tensors["transformer.h.1.mlp.c_fc.bias"][5] = np.nan

        edit_weights(tiny, spoil)
        with pytest.raises(CheckpointError, match=r"c_fc\.bias has 1 values that are NaN"):
            convert(tiny, tmp_path / "new")
        assert list(tmp_path.iterdir()) == [tiny]

    KILLED = """
import os, signal, sys
from pathlib import Path
import max_gpt2.checkpoint.convert as run

source, target, when = sys.argv[1:]
write = run.write_synced

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def write_synced(path, chunks):
    path.name == when and kill()
    write(path, chunks)

run.write_synced = write_synced
run.convert(source, target, force=True, progress=lambda done, total: when.isdigit() and done >= int(when) and kill())
"""

    def kill(self, source: Path, target: Path, when: object) -> Path:
        """Convert in a process that kills itself; return the partial folder."""
        command = [sys.executable, "-c", self.KILLED, str(source), str(target), str(when)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
        assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, "", "")
        (left,) = target.parent.glob(".*")
        return left

    @pytest.mark.parametrize("when", [1, 70_000, 4 * 30792, "tokenizer.json", "config.json"])
    def test_kill_leaves_no_loadable_folder(self, tiny: Path, tmp_path: Path, when: object) -> None:
        left = self.kill(tiny, tmp_path / "new", when)
        assert left.name.startswith(".new.partial-")
        assert not (tmp_path / "new").exists()
        assert not (left / "config.json").exists()
        with pytest.raises(MaxGPT2Error):
            load_checkpoint(left)
        if when == "config.json":
            assert {path.name for path in left.iterdir()} == FILES - {"config.json"}
        convert(tiny, tmp_path / "new")
        load_checkpoint(tmp_path / "new")

    def test_kill_leaves_the_old_folder_unchanged(self, tiny: Path, tmp_path: Path) -> None:
        old = shutil.copytree(tiny, tmp_path / "new")
        before = contents(old)
        self.kill(tiny, old, "config.json")
        assert contents(old) == before


class TestForce:
    def test_existing_paths_are_preserved_without_force(self, tiny: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "file").write_text("precious")
        (tmp_path / "nowhere").symlink_to(tmp_path / "nowhere")
        shutil.copytree(tiny, tmp_path / "other")
        for name in ("empty", "file", "other", "nowhere"):
            assert f"{name} already exists" in error_message(tiny, tmp_path / name)
        assert (tmp_path / "file").read_text() == "precious"

    def test_empty_folder_and_checkpoint_are_replaced(self, tiny: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        other = shutil.copytree(tiny, tmp_path / "other")
        (other / "extra.bin").touch()
        for name in ("empty", "other"):
            new = convert(tiny, tmp_path / name, force=True).folder
            assert {path.name for path in new.iterdir()} == FILES
        assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "other", "tiny"]

    @pytest.mark.parametrize(
        "change",
        [
            lambda folder: (folder / "config.json").unlink(),
            lambda folder: (folder / "config.json").write_text("no JSON"),
            lambda folder: edit_config(folder, model_type="llama"),
            lambda folder: (folder / "logs").mkdir(),
            lambda folder: (folder / "logs").symlink_to(folder.parent),
        ],
    )
    def test_other_folders_are_preserved(self, tiny: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
        other = shutil.copytree(tiny, tmp_path / "other")
        change(other)
        before = sorted(path.name for path in other.iterdir())
        assert "neither empty nor a GPT-2 checkpoint" in error_message(tiny, other, force=True)
        assert sorted(path.name for path in other.iterdir()) == before

    def test_files_and_home_folders_are_preserved(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "home" / "work").mkdir(parents=True)
        (tmp_path / "file").write_text("precious")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        for target in ("~", tmp_path / "file", "/"):
            assert "neither empty nor" in error_message(tiny, target, force=True)

    def test_failure_preserves_the_old_folder(self, tiny: Path, tmp_path: Path) -> None:
        old = shutil.copytree(tiny, tmp_path / "new")
        (old / "extra.bin").touch()
        before = contents(old)
        with pytest.raises(ZeroDivisionError):
            convert(tiny, old, force=True, progress=fail_at(ZeroDivisionError(), 0.5))
        assert contents(old) == before
        assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "tiny"]

    @pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "Permission denied"), KeyboardInterrupt()])
    def test_old_folder_is_restored_if_the_rename_fails(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
    ) -> None:
        old = shutil.copytree(tiny, tmp_path / "new")
        (old / "extra.bin").touch()
        before = contents(old)
        rename = Path.rename

        def fail(path: Path, target: Path) -> Path:
            if ".new.partial-" in path.name:
                assert not old.exists()  # it has been moved aside
                raise error
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(DestinationError if isinstance(error, OSError) else KeyboardInterrupt):
            convert(tiny, old, force=True)
        assert contents(old) == before
        assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "tiny"]

    def test_undeletable_old_folder_is_named(self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shutil.copytree(tiny, tmp_path / "new")
        remove = shutil.rmtree

        def fail(path: Path, ignore_errors: bool = False) -> None:
            if ".new.replaced-" in path.name:
                raise PermissionError(errno.EACCES, "Permission denied")
            remove(path, ignore_errors)

        monkeypatch.setattr(shutil, "rmtree", fail)
        with pytest.raises(
            DestinationError, match=r"new is written, but .* could not be deleted. Delete .*\.new\.replaced-"
        ):
            convert(tiny, tmp_path / "new", force=True)
        load_checkpoint(tmp_path / "new")

    @pytest.mark.parametrize("force", [True, False])
    def test_folder_created_meanwhile_is_preserved(self, tiny: Path, tmp_path: Path, force: bool) -> None:
        def meddle(_done: int, _total: int) -> None:
            (tmp_path / "new").mkdir(exist_ok=True)
            (tmp_path / "new" / "theirs").touch()

        with pytest.raises(DestinationError, match="neither empty nor" if force else "exists"):
            convert(tiny, tmp_path / "new", force=force, progress=meddle)
        assert contents(tmp_path / "new") == {"theirs": b""}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "tiny"]


class TestOverlap:
    def test_source_is_not_overwritten(self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tiny)
        (tmp_path / "link").symlink_to(tiny)
        before = contents(tiny)
        for target in (tiny, ".", "../tiny", tmp_path / "link", tiny / "." / ".." / "tiny"):
            assert "contains tiny, which the conversion reads" in error_message(tiny, target, force=True)
        assert "contains tiny, which the conversion reads" in error_message(tmp_path / "link", tiny, force=True)
        assert "contains model.safetensors, which the conversion reads" in error_message(
            tiny / "model.safetensors", tiny, force=True
        )
        assert contents(tiny) == before

    def test_destination_inside_the_source_is_rejected(self, tiny: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tiny)
        for target in (tiny / "new", tmp_path / "link" / "new"):
            for source in (tiny, tmp_path / "link"):
                assert "lies inside" in error_message(source, target)

    def test_destination_beside_the_source_file_is_allowed(self, tiny: Path) -> None:
        new = convert(tiny / "model.safetensors", tiny / "new").folder
        assert {path.name for path in new.iterdir()} == FILES

    def test_target_of_a_link_in_the_source_is_not_overwritten(self, tiny: Path, tmp_path: Path) -> None:
        """Snapshots in the hub's cache consist of such links."""
        other = shutil.copytree(tiny, tmp_path / "other")
        (tiny / "model.safetensors").unlink()
        (tiny / "model.safetensors").symlink_to(other / "model.safetensors")
        assert "contains model.safetensors, which the conversion reads" in error_message(tiny, other, force=True)
        assert "model.safetensors" in contents(other)

    def test_folder_of_the_tokenizer_is_not_overwritten(self, tiny: Path, tmp_path: Path) -> None:
        source = llmc(tmp_path).path
        for name in ("tokenizer.json", "vocab.json", "merges.txt"):
            (tmp_path / name).unlink()
        with pytest.raises(DestinationError, match="contains tiny, which the conversion reads"):
            convert(source, tiny, LoadOptions(tokenizer=tiny), force=True)
        assert {path.name for path in convert(source, tiny / "new", LoadOptions(tokenizer=tiny)).folder.iterdir()} >= {
            "vocab.json"
        }


class TestPath:
    def test_missing_parent_folder_is_rejected(self, tiny: Path, tmp_path: Path) -> None:
        assert f"the folder {tmp_path}/a does not exist" in error_message(tiny, tmp_path / "a" / "b")
        assert "does not exist. Create it first" in error_message(tiny, tiny / "config.json" / "b")
        assert "does not exist. Create it first" in error_message(tiny, "~nobody-here/b")

    def test_link_is_followed(self, tiny: Path, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "new")
        assert convert(tiny, tmp_path / "link").folder == tmp_path / "elsewhere" / "new"
        assert convert(tiny, tmp_path / "link", force=True).folder == tmp_path / "elsewhere" / "new"
        assert (tmp_path / "link").is_symlink()
        assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["new"]

    def test_relative_path_is_resolved(self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert convert("tiny", "new").folder == tmp_path / "new"

    def test_too_little_disk_space_is_rejected_before_writing(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        needed = sum(convert(tiny, tmp_path / "whole").files.values())
        usage = namedtuple("usage", "free")
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(needed - 1))
        monkeypatch.setattr(run, "atomic_folder", None)  # no write is attempted
        assert "needs 0.1 MB, and its disk has 0.1 MB free" in error_message(tiny, tmp_path / "new")
        monkeypatch.undo()
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(needed))
        convert(tiny, tmp_path / "new")

    def test_disk_that_fills_up_is_reported(self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_descriptor: int) -> NoReturn:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        message = error_message(tiny, tmp_path / "new")
        assert message == (
            f"{tmp_path / 'new'} was not written (No space left on device). "
            "Free some space, or give a folder elsewhere."
        )

    def test_file_size_limit_is_reported(self, tiny: Path, tmp_path: Path) -> None:
        """The operating system fails a write in the middle of the weights."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        try:
            assert "was not written (File too large)" in error_message(tiny, tmp_path / "new")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def test_unwritable_folder_is_reported(self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def denied(_path: Path) -> NoReturn:  # permissions do not stop root, who may run the tests
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "mkdir", denied)
        assert "was not written (Permission denied). Check its permissions" in error_message(tiny, tmp_path / "new")

    def test_too_long_name_is_reported(self, tiny: Path, tmp_path: Path) -> None:
        assert "was not written (File name too long)" in error_message(tiny, tmp_path / ("a" * 250))


def test_rejected_source_writes_nothing(tiny: Path, tmp_path: Path) -> None:
    (tiny / "tokenizer.json").unlink()
    (tiny / "vocab.json").unlink()
    with pytest.raises(MaxGPT2Error, match="has no tokenizer"):
        convert(tiny, tmp_path / "new")
    assert list(tmp_path.iterdir()) == [tiny]
