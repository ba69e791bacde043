import shutil
from pathlib import Path

import huggingface_hub
import pytest

from max_gpt2.checkpoint.locate import DEMO, locate
from max_gpt2.errors import ModelNotFoundError
from tests.support.hub import fill_cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    return folder


def test_demo_and_folders(tiny_original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate("demo") == DEMO
    assert locate(tiny_original) == tiny_original
    monkeypatch.chdir(tiny_original.parent)
    assert locate("tiny") == Path("tiny")


@pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2"])
def test_a_filled_cache_serves_the_short_and_the_long_name(cache: Path, tiny_original: Path, name: str) -> None:
    fill_cache(cache, "openai-community/gpt2", tiny_original)
    assert (locate(name) / "config.json").read_bytes() == (tiny_original / "config.json").read_bytes()


def test_a_cache_that_was_filled_under_the_short_name(cache: Path, tiny_original: Path) -> None:
    fill_cache(cache, "gpt2", tiny_original)
    assert "models--gpt2" in str(locate("gpt2"))


def test_without_a_network_the_ways_out_are_named(cache: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        locate("gpt2")
    message = str(caught.value)
    assert "openai-community/gpt2 is not in the cache" in message
    assert "\n" not in message
    assert all(way in message for way in ("a folder", "Hugging Face cache", "--model demo", "make demo"))


@pytest.mark.parametrize("name", ["./nothing", "/no/such/folder", "../x", "a/b/c", "", "-x", "gpt2?", "a b"])
def test_what_is_neither_a_folder_nor_a_hub_id(cache: Path, name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="There is no file or folder"):
        locate(name)


def test_a_file_is_taken_as_it_is(tiny: Path) -> None:
    assert locate(tiny / "model.safetensors") == tiny / "model.safetensors"


def test_the_cache_is_used_as_it_is(cache: Path, tiny_original: Path) -> None:
    fill_cache(cache, "someone/their-gpt2", tiny_original)
    folder = locate("someone/their-gpt2")
    assert (folder / "model.safetensors").is_symlink()
    shutil.rmtree(cache)
    with pytest.raises(ModelNotFoundError):
        locate("someone/their-gpt2")
