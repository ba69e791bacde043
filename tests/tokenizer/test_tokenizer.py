import json
from pathlib import Path

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from fixtures.checkpoints import TEXT, write_tokenizer
from max_gpt2.errors import RequestError, TokenizerError
from max_gpt2.tokenizer import END_OF_TEXT, GPT2Tokenizer

TEXTS = ["", TEXT, " Hello world", "Hello world", "Good morning 🌍! Ça va? 你好", "  \n\n\tx  ", "\x00\x1f", "it's 42"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(made)
    return made


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> GPT2Tokenizer:
    return GPT2Tokenizer.from_folder(folder, 311)


@pytest.mark.parametrize("text", TEXTS)
def test_ids_match_transformers(tiny_original: Path, tokenizer: GPT2Tokenizer, text: str) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(tiny_original)
    assert tokenizer.encode(text) == theirs(text).input_ids


@given(st.text())
def test_decoding_inverts_encoding(tokenizer: GPT2Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_vocab_and_merges_equal_tokenizer_json(folder: Path, tokenizer: GPT2Tokenizer, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    other = GPT2Tokenizer.from_folder(tmp_path, 311)
    assert other.size == tokenizer.size == 300
    assert other.end_of_text == tokenizer.end_of_text == 299
    assert other.decode([299]) == tokenizer.decode([299]) == ""
    for text in TEXTS:
        assert other.encode(text) == tokenizer.encode(text)


def test_special_token_in_a_text_is_plain_text(tokenizer: GPT2Tokenizer) -> None:
    ids = tokenizer.encode(f"a{END_OF_TEXT}b")
    assert tokenizer.end_of_text not in ids
    assert tokenizer.decode(ids) == f"a{END_OF_TEXT}b"
    assert tokenizer.decode([tokenizer.end_of_text]) == ""


def test_lone_surrogate_is_rejected(tokenizer: GPT2Tokenizer) -> None:
    with pytest.raises(RequestError, match="not valid Unicode at position 2"):
        tokenizer.encode("ab\ud800")


def test_missing_tokenizer_is_reported(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("{}")  # without merges.txt, this is not a tokenizer
    with pytest.raises(TokenizerError, match="has no tokenizer"):
        GPT2Tokenizer.from_folder(tmp_path, 311)


def test_ids_beyond_the_vocabulary_are_rejected(folder: Path) -> None:
    with pytest.raises(TokenizerError, match="has 2 ids beyond the model's vocabulary of 297"):
        GPT2Tokenizer.from_folder(folder, 297)


@pytest.mark.parametrize("content", ["", "{}", "[1, 2]", "nonsense"])
def test_malformed_tokenizer_json_is_rejected(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is not a tokenizer"):
        GPT2Tokenizer.from_folder(tmp_path, 311)


def test_added_token_with_an_impossible_id_is_rejected(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"].append(content["added_tokens"][0] | {"id": 305, "content": "<later>"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(TokenizerError, match="the added token '<later>' the id 305, but it would get 300"):
        GPT2Tokenizer.from_folder(tmp_path, 311)


def test_settings_that_crash_or_stall_the_library_are_rejected(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    long = content["added_tokens"][0] | {"id": 300, "content": "x" * 1001}
    for changes, message in (
        ({"model": content["model"] | {"continuing_subword_prefix": "##"}}, 'continuing_subword_prefix is "##"'),
        ({"added_tokens": [*content["added_tokens"], long]}, "an added token has more than 1,000 characters"),
    ):
        (tmp_path / "tokenizer.json").write_text(json.dumps(content | changes))
        with pytest.raises(TokenizerError, match=message):
            GPT2Tokenizer.from_folder(tmp_path, 311)


def test_malformed_merges_are_rejected(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_bytes((folder / "vocab.json").read_bytes())
    (tmp_path / "merges.txt").write_text("#version: 0.2\nonly-one-part\n")
    with pytest.raises(TokenizerError, match=r"vocab\.json is not a tokenizer"):
        GPT2Tokenizer.from_folder(tmp_path, 311)


def test_missing_end_of_text_token_raises_when_needed(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1, "ab": 2}')
    (tmp_path / "merges.txt").write_text("a b\n")
    tokenizer = GPT2Tokenizer.from_folder(tmp_path, 3)
    assert tokenizer.encode("ab") == [2]
    with pytest.raises(TokenizerError, match="Give a prompt"):
        _ = tokenizer.end_of_text


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("truncation", {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}),
        (
            "padding",
            {"strategy": {"Fixed": 500}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "!"}
            | {"pad_to_multiple_of": None},
        ),
    ],
)
def test_truncation_and_padding_settings_are_ignored(
    folder: Path, tokenizer: GPT2Tokenizer, tmp_path: Path, setting: str, value: object
) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(content | {setting: value}))
    assert GPT2Tokenizer.from_folder(tmp_path, 311).encode(TEXT) == tokenizer.encode(TEXT)
