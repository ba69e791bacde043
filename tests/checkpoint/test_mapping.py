"""The mappings of a checkpoint's file."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType

from fixtures.checkpoints import edit_weights, write_checkpoint
from fixtures.formats import linear_state, write_gguf
from max_gpt2.checkpoint import inspect_checkpoint, load_weights
from max_gpt2.checkpoint.formats.mapping import MappedFile
from max_gpt2.errors import CheckpointError
from max_gpt2.weights.quantise import weight_bytes

INT32 = np.dtype(np.int32)
SMAPS = Path("/proc/self/smaps")
#: Whether the kernel has huge pages.
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage").exists()
#: More than a huge page, and no multiple of one.
LARGE = 2**21 + 4
WAYS: list[Callable[..., np.ndarray]] = [MappedFile.values, MappedFile.kept_values]

only_linux = pytest.mark.skipif(not SMAPS.exists(), reason="only Linux lists the mappings of a process")
both_ways = pytest.mark.parametrize("values", WAYS)


def mappings(path: Path) -> list[dict[str, list[str]]]:
    """Return the properties of all mappings of a file in this process."""
    entries = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", SMAPS.read_text(), flags=re.MULTILINE)
    own = [entry for entry in entries if entry.partition("\n")[0].endswith(f" {path.resolve()}")]
    return [{name: value.split() for name, value in re.findall(r"^(\w+):(.*)$", entry, re.MULTILINE)} for entry in own]


def whole(file: Path) -> MappedFile:
    """Return a file of which the model may use every byte."""
    return MappedFile(file, [(0, file.stat().st_size if file.exists() else 1)])


@both_ways
def test_values_are_those_of_the_file(tmp_path: Path, values: Callable[..., np.ndarray]) -> None:
    content = np.random.default_rng(0).integers(0, 256, 2 * LARGE + 1).astype(np.uint8).tobytes()
    (tmp_path / "file").write_bytes(content)
    mapped = whole(tmp_path / "file")
    for offset, shape in ((0, (3, 5)), (1, (50, 5)), (13, (2, 1, 9)), (997, ()), (LARGE, (LARGE // 4,)), (5, (2**19,))):
        found = values(mapped, INT32, offset, shape)
        assert found.shape == shape
        assert found.tobytes() == np.frombuffer(content, INT32, np.prod(shape, dtype=int), offset).tobytes()


@both_ways
@pytest.mark.parametrize("count", [3, LARGE // 4])
def test_changing_an_array_does_not_change_the_file(
    tmp_path: Path, values: Callable[..., np.ndarray], count: int
) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(2 * LARGE))
    values(whole(file), INT32, 4, (count,))[:] = 7
    assert file.read_bytes() == bytes(2 * LARGE)


@both_ways
@pytest.mark.parametrize(("offset", "count"), [(0, LARGE // 4 + 1), (2, LARGE // 4), (LARGE, 1), (0, 2**60)])
def test_values_beyond_the_end_are_refused(
    tmp_path: Path, values: Callable[..., np.ndarray], offset: int, count: int
) -> None:
    (tmp_path / "file").write_bytes(bytes(LARGE))
    with pytest.raises(CheckpointError, match=r"file can no longer be read \("):
        values(whole(tmp_path / "file"), INT32, offset, (count,))


@both_ways
@pytest.mark.parametrize("content", [None, b""])
def test_a_file_that_cannot_be_mapped_is_refused(
    tmp_path: Path, values: Callable[..., np.ndarray], content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"file can no longer be read \("):
        values(whole(tmp_path / "file"), INT32, 0, (LARGE,))


@only_linux
def test_large_arrays_that_are_kept_share_a_mapping(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(4 * LARGE))
    mapped = whole(file)
    kept = [mapped.kept_values(INT32, index * LARGE, (LARGE // 4,)) for index in range(4)]
    (found,) = mappings(file)
    assert ("hg" in found["VmFlags"]) == HUGE_PAGES
    others = [mapped.kept_values(INT32, 0, (9,)), mapped.values(INT32, 0, (LARGE // 4,))]
    assert len(mappings(file)) == 3
    del others
    assert len(mappings(file)) == 1
    del kept, mapped
    assert mappings(file) == []


@only_linux
def test_mappings_end_at_unused_ranges(tmp_path: Path) -> None:
    file, values = tmp_path / "file", LARGE // 4
    file.write_bytes(np.arange(2 * LARGE, dtype=INT32).tobytes())
    used = [(5 * LARGE, 6 * LARGE), (4 * LARGE, 5 * LARGE - 60), (12, LARGE + 12), (LARGE + 4108, 3 * LARGE)]
    mapped = MappedFile(file, used)
    kept = [mapped.kept_values(INT32, offset, (values,)) for offset in (12, LARGE + 4108, 5 * LARGE)]
    assert [int(array[0]) for array in kept] == [3, LARGE // 4 + 1027, 5 * LARGE // 4]
    sizes = sorted(1024 * int(mapping["Size"][0]) for mapping in mappings(file))
    pages = [-(-size // 4096) * 4096 for size in (LARGE + 12, 2 * LARGE - 4108, 2 * LARGE)]
    assert all(0 <= size - least <= 8192 for size, least in zip(sizes, pages, strict=True))
    other = mapped.kept_values(INT32, 6 * LARGE, (values,))  # not in any range
    assert len(mappings(file)) == 4
    assert other[0] == 6 * LARGE // 4


@only_linux
@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
def test_only_weights_in_place_stay_mapped(tmp_path: Path, kind: str) -> None:
    quantised = GGMLQuantizationType[kind]
    file = write_gguf(tmp_path / "gpt2.gguf", linear_state(n_embd=768), quantised=quantised)
    plan = inspect_checkpoint(file)[2]
    weights = load_weights(plan, "auto")
    resident = sum(1024 * int(mapping["Rss"][0]) for mapping in mappings(file))
    in_place = weight_bytes(weights["transformer.wte.weight"])
    assert in_place <= resident < in_place + 2**20 < file.stat().st_size


@only_linux
@pytest.mark.parametrize("mask", [False, True])
def test_large_weights_of_safetensors_share_a_mapping(tmp_path: Path, mask: bool) -> None:
    path = write_checkpoint(tmp_path, n_embd=384)
    if mask:  # the file has it between two layers
        edit_weights(
            path, lambda tensors: tensors.update({"transformer.h.1.attn.bias": np.ones((1, 1, 600, 600), np.float32)})
        )
    weights = load_weights(inspect_checkpoint(path)[2], "auto")
    large = {name for name, weight in weights.items() if weight_bytes(weight) > LARGE}
    small = {id(weight) for name, weight in weights.items() if name not in large}
    assert len(large) == 2 * 3
    found = mappings(path / "model.safetensors")
    assert len(found) == (2 if mask else 1) + len(small)
    assert sum("hg" in mapping["VmFlags"] for mapping in found) == (2 if mask else 1) * HUGE_PAGES
