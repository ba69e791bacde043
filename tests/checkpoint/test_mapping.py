"""The mapping of a checkpoint's file."""

import re
from pathlib import Path

import gguf
import numpy as np
import pytest

from fixtures.formats import linear_state, write_gguf
from max_gpt2.checkpoint import load_checkpoint
from max_gpt2.checkpoint.formats.mapping import MappedFile
from max_gpt2.errors import CheckpointError

FLOAT32 = np.dtype(np.float32)
SMAPS = Path("/proc/self/smaps")


def mappings(path: Path) -> list[set[str]]:
    """Return the flags of all mappings of a file in this process."""
    entries = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", SMAPS.read_text(), flags=re.MULTILINE)
    own = [entry for entry in entries if entry.partition("\n")[0].endswith(f" {path}")]
    return [set(re.findall(r"^VmFlags:(.*)$", entry, re.MULTILINE)[0].split()) for entry in own]


def test_values_are_those_of_the_file(tmp_path: Path) -> None:
    content = np.random.default_rng(0).integers(0, 256, 1001).astype(np.uint8).tobytes()
    (tmp_path / "file").write_bytes(content)
    mapped = MappedFile(tmp_path / "file")
    for offset, shape in ((0, (3, 5)), (1, (50, 5)), (13, (2, 1, 9)), (1001, (0, 7)), (997, ()), (1, (250,))):
        expected = np.frombuffer(content, FLOAT32, np.prod(shape, dtype=int), offset).reshape(shape)
        found = mapped.values(FLOAT32, offset, shape)
        assert found.shape == shape
        assert found.tobytes() == expected.tobytes()


def test_changing_an_array_does_not_change_the_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(64))
    MappedFile(file).values(FLOAT32, 4, (3,))[:] = 7
    assert file.read_bytes() == bytes(64)


@pytest.mark.parametrize(("offset", "shape"), [(0, (17,)), (2, (16,)), (64, (1,)), (0, (2**40, 2**40))])
def test_values_beyond_the_end_are_refused(tmp_path: Path, offset: int, shape: tuple[int, ...]) -> None:
    (tmp_path / "file").write_bytes(bytes(64))
    with pytest.raises(CheckpointError, match=r"file has been truncated to 64 bytes\. "):
        MappedFile(tmp_path / "file").values(FLOAT32, offset, shape)


@pytest.mark.parametrize("content", [None, b""])
def test_a_file_that_cannot_be_mapped_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"file can no longer be read \("):
        MappedFile(tmp_path / "file").values(FLOAT32, 0, (0,))


@pytest.mark.skipif(not SMAPS.exists(), reason="only Linux lists the mappings of a process")
@pytest.mark.parametrize("format_", ["safetensors", "gguf"])
def test_all_tensors_share_a_mapping_that_may_have_huge_pages(tiny: Path, tmp_path: Path, format_: str) -> None:
    quantised = gguf.GGMLQuantizationType.Q8_0
    is_gguf = format_ == "gguf"
    path = write_gguf(tmp_path / "gpt2.gguf", linear_state(n_embd=96), quantised=quantised) if is_gguf else tiny
    checkpoint = load_checkpoint(path)
    file = path if is_gguf else path / "model.safetensors"
    flags = mappings(file.resolve())
    assert len(flags) == 1
    assert ("hg" in flags[0]) == Path("/sys/kernel/mm/transparent_hugepage").exists()
    del checkpoint
    assert mappings(file.resolve()) == []
