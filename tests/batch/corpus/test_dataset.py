"""Files of an input: single files, folders, globs and URIs."""

import glob
import os
from pathlib import Path

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from max_gpt2.batch.corpus.dataset import find_dataset, open_uri, without_credentials
from max_gpt2.batch.corpus.globs import compile_glob
from max_gpt2.batch.corpus.readers import ColumnNames, DatasetReader
from max_gpt2.batch.corpus.scan import scan_dataset
from max_gpt2.errors import InputError, MissingExtraError, RequestError

FILES = ["b.jsonl", "a.txt", "c.jsonl.gz", "deep/d.JSONL", "deep/er/e.parquet", "deep/er/f.txt.zst", "[x].jsonl"]
OTHERS = ["readme.md", "deep/data.csv"]
HIDDEN = [".hidden.jsonl", "_temporary/g.jsonl", "deep/_SUCCESS", "deep/.git/h.txt"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES + OTHERS + HIDDEN:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "fifo.jsonl")
    return tmp_path


def test_folder_has_its_files_in_order_and_names_others(folder: Path) -> None:
    dataset = find_dataset(folder)
    assert (dataset.names, dataset.ignored) == (tuple(sorted(FILES)), tuple(sorted(OTHERS)))
    assert [dataset.path(name) for name in dataset.names] == [str(folder / name) for name in sorted(FILES)]


@pytest.mark.parametrize("name", FILES)
def test_single_file_is_relative_to_its_folder(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for spec in (folder / name, Path(name), f"{folder}/{name}"):
        dataset = find_dataset(spec)
        assert (dataset.root, dataset.names) == (str((folder / name).parent), (Path(name).name,))


@pytest.mark.parametrize(
    "pattern", ["*", "*.jsonl*", "deep/*", "deep/**", "**", "**/*.txt*", "**/e*/*", "?.txt", "d*p/[a-e]*"]
)
def test_globs_agree_with_those_of_python(folder: Path, pattern: str) -> None:
    found = [Path(one) for one in glob.glob(f"{folder}/{pattern}", recursive=True)]  # noqa: PTH207
    names = [str(one.relative_to(folder)) for one in found if one.is_file() and "_" not in str(one.relative_to(folder))]
    root = f"{folder}/deep" if pattern.startswith("deep/") else str(folder)
    for spec in (f"{folder}/{pattern}", f"file://{folder}/{pattern}"):
        dataset = find_dataset(spec)
        inside = [os.path.relpath(f"{dataset.root}/{name}", folder) for name in dataset.names + dataset.ignored]
        assert (sorted(inside), dataset.root) == (sorted(names), root)


NAMES = st.text("ab-]!^.", min_size=1, max_size=4)
CHARS = st.sampled_from(["a", "b", "-", "*", "?", "[ab]", "[!a]", "[a-b]", "[]a]", "[", "]", "!", "^", "."])


@given(name=NAMES, pattern=st.lists(CHARS, max_size=5).map("".join))
def test_components_match_as_in_fnmatch(name: str, pattern: str) -> None:
    from fnmatch import fnmatchcase

    if name.startswith(".") and not pattern.startswith("."):
        assert not compile_glob(pattern)(name)
    else:
        assert compile_glob(pattern)(name) == fnmatchcase(name, pattern)


def test_hidden_files_match_only_by_their_names(folder: Path) -> None:
    for name in HIDDEN[:2]:
        assert find_dataset(folder / name).names
        start = Path(name).name[0]
        assert find_dataset(f"{folder}/{Path(name).parent}/{start}*.jsonl" if start != "g" else folder / name).names


def test_other_file_systems_and_uris_have_the_same_files(folder: Path) -> None:
    expected = find_dataset(folder)
    subtree = fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())
    mock = fs._MockFileSystem()
    for name in FILES + OTHERS + HIDDEN:
        mock.create_dir(f"in put/{Path(name).parent}", recursive=True)
        with mock.open_output_stream(f"in put/{name}", compression=None) as file:
            file.write(b"x")
    for dataset in (
        find_dataset(folder.as_uri()),
        find_dataset(f"{folder.as_uri()}/"),
        find_dataset("", subtree),
        find_dataset("in put", mock),
        find_dataset("in put/", mock),
    ):
        assert (dataset.names, dataset.ignored) == (expected.names, expected.ignored)
        for name in dataset.names:
            with dataset.filesystem.open_input_stream(dataset.path(name), compression=None) as file:
                assert file.read() == b"x"
    for spec, system in (("**/*.jsonl", subtree), ("in put/**/*.jsonl", mock), ("[i]n put/**/*.jsonl", mock)):
        assert [Path(name).name for name in find_dataset(spec, system).names] == ["[x].jsonl", "b.jsonl"]
    single = find_dataset("b.jsonl", subtree)
    assert single.filesystem.get_file_info(single.path("b.jsonl")).size == 1


def test_uris_keep_spaces_and_options(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "é.jsonl").write_text("x")
    for spec in (
        f"file://{tmp_path}/a b/é.jsonl",
        f"file://{tmp_path}/a%20b/*.jsonl",
        f"file://{tmp_path}/a b/?.jsonl",
    ):
        assert find_dataset(spec).names == ("é.jsonl",)
    filesystem, path = open_uri("s3://user:secret@bucket/a b/x.jsonl?region=eu-west-1&endpoint_override=localhost:1")
    assert (filesystem.region, path) == ("eu-west-1", "bucket/a b/x.jsonl")
    assert without_credentials("s3://user:secret@bucket/*/?.jsonl?region=x") == "s3://bucket/*/?.jsonl"


def test_unreachable_file_system_is_one_sentence() -> None:
    options = "region=x&endpoint_override=localhost:1&scheme=http&allow_delayed_open=true"
    message = r"^--input s3://bucket/\*\.jsonl cannot be read \(.*\)\. Check the address, the"
    with pytest.raises(InputError, match=message) as caught:
        find_dataset(f"s3://key:secret@bucket/*.jsonl?{options}")
    assert "secret" not in str(caught.value)
    with pytest.raises(RequestError, match=r"other://a cannot be opened \(Unrecognized filesystem type"):
        find_dataset("other://a")


def test_links_to_a_folder_above_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for name in ("data/a.jsonl", "other/b.jsonl"):
        (tmp_path / name).write_text("x")
    (tmp_path / "data" / "sub" / "above").symlink_to("..")
    (tmp_path / "data" / "sub" / "linked").symlink_to("../../other")
    (tmp_path / "data" / "sub" / "c.jsonl").symlink_to("../../other/b.jsonl")
    (tmp_path / "data" / "dangling.jsonl").symlink_to("nowhere")
    assert find_dataset(tmp_path / "data").names == ("a.jsonl", "sub/c.jsonl", "sub/linked/b.jsonl")


def test_inputs_without_a_file_are_rejected(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    for spec, message in (
        ("none.jsonl", "does not exist"),
        ("none/*.jsonl", "matches no file"),
        ("*.csv", "matches no file"),
        ("deep/*.csv", r"matches no file that is one of .*\.parquet"),
        ("empty", r"has no file that is one of .*\.parquet"),
        ("readme.md", r"is none of .*\.parquet.*Rename it"),
        ("pipe/fifo.jsonl", "is not a regular file"),
        ("a\0b", "cannot be read"),
    ):
        for prefix in (f"{folder}/", f"file://{folder}/"):
            if "\0" not in spec or "://" not in prefix:
                with pytest.raises(RequestError, match=f"^--input .*{message}"):
                    find_dataset(f"{prefix}{spec}")
    name = os.fsdecode(b"\xff.jsonl")
    (folder / name).write_text("x")
    with pytest.raises(RequestError, match=r"is not UTF-8\. Rename"):
        find_dataset(folder)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'max-gpt2\[corpus\]'"):
        find_dataset(folder)


def test_unreadable_folder_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=rf"^--input {folder} cannot be read \(Permission denied\)\. Check the path"):
        find_dataset(folder)


def saved(folder: Path, rows: int = 10, shards: int = 3) -> datasets.Dataset:
    data = datasets.Dataset.from_dict({"text": [f"text {i}" for i in range(rows)], "label": list(range(rows))})
    data.save_to_disk(str(folder), num_shards=shards)
    return data


def test_saved_dataset_is_read_as_datasets_reads_it(tmp_path: Path) -> None:
    saved(tmp_path / "saved")
    loaded = datasets.Dataset.load_from_disk(str(tmp_path / "saved"))
    loaded.map(lambda row: {"text": row["text"] + "!"}, load_from_cache_file=False)  # leaves a cache beside the data
    assert list((tmp_path / "saved").glob("cache-*.arrow"))
    dataset = find_dataset(tmp_path / "saved")
    assert [name.partition("-of-")[0] for name in dataset.names] == ["data-00000", "data-00001", "data-00002"]
    columns = ColumnNames("text", keep=("label",))
    scan = scan_dataset(dataset, columns, lambda done, total: None)
    rows = list(DatasetReader(dataset, scan.files, columns, scan.kept).rows(0, 10))
    assert [{"text": row.text, **row.kept} for row in rows] == loaded.to_list()
    assert all(name.startswith("cache-") for name in dataset.ignored)


def test_datasets_in_subfolders_and_other_json_files(tmp_path: Path) -> None:
    for name in ("en", "de"):
        saved(tmp_path / name, shards=1)
    (tmp_path / "state.json").write_text('{"text": "not beside .arrow files"}\n')
    assert find_dataset(tmp_path).names == (
        "de/data-00000-of-00001.arrow",
        "en/data-00000-of-00001.arrow",
        "state.json",
    )


def test_saved_dataset_dict_is_rejected_with_its_splits(tmp_path: Path) -> None:
    data = datasets.Dataset.from_dict({"text": ["a"]})
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(str(tmp_path / "saved"))
    for spec in (tmp_path / "saved", tmp_path):
        with pytest.raises(RequestError, match=r"saved is a saved DatasetDict with the splits train, test\. Give"):
            find_dataset(spec)
    assert find_dataset(tmp_path / "saved" / "train").names == ("data-00000-of-00001.arrow",)


@pytest.mark.parametrize(
    "content", ["", "[1]", "{", "\xff", '{"_data_files": 3, "splits": 3}', '{"_data_files": [3], "splits": [3]}']
)
@pytest.mark.parametrize("name", ["state.json", "dataset_dict.json"])
def test_damaged_descriptions_are_named(tmp_path: Path, name: str, content: str) -> None:
    saved(tmp_path / "a", shards=1)
    (tmp_path / "a" / name).write_text(content, "latin-1")
    with pytest.raises(InputError, match=rf"{name} is damaged"):
        find_dataset(tmp_path / "a")
