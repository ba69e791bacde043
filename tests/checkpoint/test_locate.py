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


def test_demo_and_folders_are_located(tiny_original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate("demo") == DEMO
    assert locate(tiny_original) == tiny_original
    monkeypatch.chdir(tiny_original.parent)
    assert locate("tiny") == Path("tiny")


@pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2"])
def test_cached_model_is_found_by_short_and_long_name(cache: Path, tiny_original: Path, name: str) -> None:
    fill_cache(cache, "openai-community/gpt2", tiny_original)
    assert (locate(name) / "config.json").read_bytes() == (tiny_original / "config.json").read_bytes()


def test_model_cached_under_the_short_name_is_found(cache: Path, tiny_original: Path) -> None:
    fill_cache(cache, "gpt2", tiny_original)
    assert "models--gpt2" in str(locate("gpt2"))


def test_error_without_network_lists_the_alternatives(cache: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        locate("gpt2")
    message = str(caught.value)
    assert "openai-community/gpt2 is not in the cache" in message
    assert "\n" not in message
    assert all(alternative in message for alternative in ("a folder", "Hugging Face cache", "--model demo"))


@pytest.mark.parametrize("name", ["./nothing", "/no/such/folder", "../x", "a/b/c", "", "-x", "gpt2?", "a b"])
def test_neither_path_nor_hub_id_is_rejected(
    cache: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        locate(name)


def test_file_is_returned_unchanged(tiny: Path) -> None:
    assert locate(tiny / "model.safetensors") == tiny / "model.safetensors"


def test_cached_files_are_not_copied(cache: Path, tiny_original: Path) -> None:
    fill_cache(cache, "someone/their-gpt2", tiny_original)
    folder = locate("someone/their-gpt2")
    assert (folder / "model.safetensors").is_symlink()
    shutil.rmtree(cache)
    with pytest.raises(ModelNotFoundError):
        locate("someone/their-gpt2")
