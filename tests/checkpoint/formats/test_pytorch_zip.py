import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fixtures.checkpoints import assert_same
from max_gpt2.checkpoint import Checkpoint, LoadOptions, load_checkpoint
from max_gpt2.errors import CheckpointError

FILE = "pytorch_model.bin"


@pytest.fixture
def pickled(tiny: Path) -> Path:
    state = load_file(tiny / "model.safetensors")
    (tiny / "model.safetensors").unlink()
    torch.save(state, tiny / FILE)
    return tiny


def error_message(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder, LoadOptions(allow_pickle=True))
    assert FILE in str(caught.value)
    return str(caught.value)


def entry_of(path: Path, name: str) -> zipfile.ZipInfo:
    with zipfile.ZipFile(path) as archive:
        return next(entry for entry in archive.infolist() if entry.filename.endswith(name))


def write_number(path: Path, offset: int, code: str, change: int) -> None:
    content = bytearray(path.read_bytes())
    number = struct.unpack_from(f"<{code}", content, offset)[0]
    struct.pack_into(f"<{code}", content, offset, number + change)
    path.write_bytes(content)


def rewrite(path: Path, method: int) -> None:
    """Rewrite the archive as another program would: without data descriptors and without alignment."""
    original = shutil.copy(path, path.with_suffix(".original"))
    with zipfile.ZipFile(original) as old, zipfile.ZipFile(path, "w", method) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))


@pytest.mark.parametrize("change", [-64, -4, 4, 8, 16])
def test_shifted_values_are_rejected(pickled: Path, change: int) -> None:
    """PyTorch computes the start of the data from the length of the extra field in the local header."""
    entry = entry_of(pickled / FILE, "data/3")
    start = entry.header_offset + 28
    extra = struct.unpack_from("<H", (pickled / FILE).read_bytes(), start)[0]
    write_number(pickled / FILE, start, "H", max(change, -extra))
    assert "data/3 is not at the offset that the archive's directory gives" in error_message(pickled)


def test_compressed_entries_are_rejected(pickled: Path) -> None:
    rewrite(pickled / FILE, zipfile.ZIP_DEFLATED)
    assert "data.pkl is compressed" in error_message(pickled)


def test_archive_of_another_program_is_read(pickled: Path, tiny_checkpoint: Checkpoint) -> None:
    rewrite(pickled / FILE, zipfile.ZIP_STORED)
    (pickled / "pytorch_model.original").unlink()
    assert_same(load_checkpoint(pickled, LoadOptions(allow_pickle=True)).state_dict, tiny_checkpoint.state_dict, atol=0)


@pytest.mark.parametrize(
    ("offset", "expected"),
    [(24, "is compressed, or a folder"), (38, "is compressed, or a folder"), (42, "damaged")],
    ids=["size", "attributes (PyTorch reads zeros)", "offset"],
)
def test_damaged_directory_is_rejected(pickled: Path, offset: int, expected: str) -> None:
    path = pickled / FILE
    name = entry_of(path, "data/3").filename.encode()
    entry = path.read_bytes().rindex(name) - 46
    write_number(path, entry + offset, "I", 0x10)
    assert expected in error_message(pickled)
