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

WHOLE = "pytorch_model.bin"


@pytest.fixture
def pickled(tiny: Path) -> Path:
    state = load_file(tiny / "model.safetensors")
    (tiny / "model.safetensors").unlink()
    torch.save(state, tiny / WHOLE)
    return tiny


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder, LoadOptions(allow_pickle=True))
    assert WHOLE in str(caught.value)
    return str(caught.value)


def entry_of(path: Path, name: str) -> zipfile.ZipInfo:
    with zipfile.ZipFile(path) as archive:
        return next(entry for entry in archive.infolist() if entry.filename.endswith(name))


def write_number(path: Path, place: int, code: str, change: int) -> None:
    content = bytearray(path.read_bytes())
    number = struct.unpack_from(f"<{code}", content, place)[0]
    struct.pack_into(f"<{code}", content, place, number + change)
    path.write_bytes(content)


def rewrite(path: Path, method: int) -> None:
    """What another program makes of the file: no descriptors, nothing aligned."""
    original = shutil.copy(path, path.with_suffix(".original"))
    with zipfile.ZipFile(original) as old, zipfile.ZipFile(path, "w", method) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))


@pytest.mark.parametrize("change", [-64, -4, 4, 8, 16])
def test_values_that_would_be_shifted_are_refused(pickled: Path, change: int) -> None:
    """PyTorch finds a tensor's bytes by the length of what its header says is before them."""
    entry = entry_of(pickled / WHOLE, "data/3")
    start = entry.header_offset + 28
    extra = struct.unpack_from("<H", (pickled / WHOLE).read_bytes(), start)[0]
    write_number(pickled / WHOLE, start, "H", max(change, -extra))
    assert "data/3 is not at the offset that the archive's directory gives" in refusal(pickled)


def test_compressed_entries_are_refused_before_they_fill_the_memory(pickled: Path) -> None:
    rewrite(pickled / WHOLE, zipfile.ZIP_DEFLATED)
    assert "data.pkl is compressed" in refusal(pickled)


def test_a_file_that_another_program_wrote_is_read(pickled: Path, tiny_checkpoint: Checkpoint) -> None:
    rewrite(pickled / WHOLE, zipfile.ZIP_STORED)
    (pickled / "pytorch_model.original").unlink()
    assert_same(load_checkpoint(pickled, LoadOptions(allow_pickle=True)).state_dict, tiny_checkpoint.state_dict, atol=0)


@pytest.mark.parametrize(
    ("place", "says"),
    [(24, "is compressed, or a folder"), (38, "is compressed, or a folder"), (42, "damaged")],
    ids=["size", "attributes, with which PyTorch reads zeros", "place"],
)
def test_a_wrong_directory_is_refused(pickled: Path, place: int, says: str) -> None:
    path = pickled / WHOLE
    name = entry_of(path, "data/3").filename.encode()
    entry = path.read_bytes().rindex(name) - 46
    write_number(path, entry + place, "I", 0x10)
    assert says in refusal(pickled)
