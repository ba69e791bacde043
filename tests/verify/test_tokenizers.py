"""The tokenizer part of a verification finds tokenizers that differ from transformers'."""

import json
from pathlib import Path

import pytest

from fixtures.checkpoints import write_tokenizer
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.verify.tokenizers import CORPUS, check_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    return tmp_path


def test_equal_tokenizers_pass(folder: Path) -> None:
    found = check_tokenizer(GPT2Tokenizer.from_folder(folder, 311))
    assert found is not None
    assert (found.ids_differ, found.decoded_differ) == ([], [])
    assert found.round_trips == found.texts == len(CORPUS) + 1
    assert "equal those of transformers" in found.describe()


def test_other_ids_are_found(folder: Path) -> None:
    ours = GPT2Tokenizer.from_folder(folder, 311)
    (folder / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    found = check_tokenizer(ours)
    assert found is not None
    assert not found.passed
    assert CORPUS[0] in found.ids_differ
    assert " leading" not in found.ids_differ
    assert "NOT EQUAL" in found.describe()


def test_other_decoder_is_found(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text()) | {"decoder": {"type": "Fuse"}}
    ours = GPT2Tokenizer(json.dumps(content), folder)
    found = check_tokenizer(ours)
    assert found is not None
    assert found.ids_differ == []
    assert "trailing " in found.decoded_differ


def test_tokenizer_without_a_folder_is_not_compared(folder: Path) -> None:
    assert check_tokenizer(GPT2Tokenizer((folder / "tokenizer.json").read_text())) is None
