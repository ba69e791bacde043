"""Folders of tokenizer files mean what transformers reads in them."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer

from fixtures.checkpoints import END_OF_TEXT, TEXT, write_tokenizer
from max_gpt2.errors import RequestError, TokenizerError
from max_gpt2.tokenizer import GPT2Tokenizer

#: transformers 5 reads `vocab.json` with an interface that the tokenizers library deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Deprecated in 0.9.0:DeprecationWarning")
#: Tokens added for a chat model; the ids follow the 300 of the vocabulary in any order.
ADDED = {"<pad>": 302, "<speaker2>": 301, "<speaker1>": 300, " kind": 303}
SPECIAL: dict[str, Any] = {
    "bos_token": {"content": END_OF_TEXT, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False},
    "eos_token": END_OF_TEXT,
    "pad_token": "<pad>",
}
MORE_SPECIAL = {"additional_special_tokens": ["<speaker2>"]}
TEXTS = ["", TEXT, "<speaker1> Hello, kind dog<speaker1>", " <speaker1>\n\n🌍", "a kindness", "a  b\tÇa"]
MARKED = ["<speaker1>yes<speaker2>no", f"a{END_OF_TEXT}b", "<pad> <pad>"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tokenizer(tmp_path)
    return tmp_path


@pytest.fixture
def slow(folder: Path) -> Path:
    (folder / "tokenizer.json").unlink()
    return folder


def write(folder: Path, **files: object) -> None:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def transformers_ids(folder: Path, text: str, **options: Any) -> list[int]:
    write(folder, config={"model_type": "gpt2"})
    return transformers.AutoTokenizer.from_pretrained(folder, **options)(text).input_ids


def assert_matches_transformers(folder: Path) -> GPT2Tokenizer:
    ours = GPT2Tokenizer.from_folder(folder, 311)
    for text in TEXTS:
        assert ours.encode(text) == transformers_ids(folder, text), text
    for text in MARKED:  # max-gpt2 encodes special tokens in a text as plain text
        assert ours.encode(text) == transformers_ids(folder, text, split_special_tokens=True), text
        assert ours.encode(text) != transformers_ids(folder, text), text
    return ours


def flags(content: str, special: bool) -> dict[str, Any]:
    plain = {"lstrip": False, "normalized": not special, "rstrip": False, "single_word": False}
    return {"content": content, "special": special} | plain


def test_added_tokens_json_is_read(slow: Path) -> None:
    write(slow, added_tokens=ADDED, special_tokens_map=SPECIAL, tokenizer_config=MORE_SPECIAL)
    ours = assert_matches_transformers(slow)
    assert ours.encode("<speaker1>a kindness")[0] == 300
    assert 303 in ours.encode("a kindness")
    assert ours.decode([300, 301, 302, 299, 303]) == "<speaker1> kind"
    assert (ours.size, ours.end_of_text) == (304, 299)


def test_added_tokens_decoder_is_read(slow: Path) -> None:
    special = {END_OF_TEXT: 299, "<pad>": 302, "<speaker2>": 301}
    listed = {str(id_): flags(token, token in special) for token, id_ in (ADDED | special).items()}
    settings = {"added_tokens_decoder": listed, "tokenizer_class": "GPT2Tokenizer", "pad_token": "<pad>"}
    settings |= {"bos_token": {"__type": "AddedToken"} | flags(END_OF_TEXT, True)}
    write(slow, tokenizer_config=settings | MORE_SPECIAL)
    write(slow, added_tokens={"<not this one>": 300})  # transformers ignores this file too
    ours = assert_matches_transformers(slow)
    assert ours.decode([300, 301, 302, 299, 303]) == "<speaker1> kind"


@pytest.mark.parametrize("name", ["special_tokens_map", "tokenizer_config"])
@pytest.mark.parametrize("more", [MORE_SPECIAL, {"extra_special_tokens": {"other": "<speaker2>"}}])
def test_special_tokens_are_read_from_either_file(slow: Path, name: str, more: dict[str, Any]) -> None:
    special = SPECIAL | {"bos_token": END_OF_TEXT}
    write(slow, added_tokens=ADDED, config={"model_type": "gpt2"}, **{name: special | more})
    ids = [300, 301, 302]
    theirs = transformers.AutoTokenizer.from_pretrained(slow).decode(ids, skip_special_tokens=True)
    assert GPT2Tokenizer.from_folder(slow, 311).decode(ids) == theirs


def test_special_token_inside_the_vocabulary_is_recognised(slow: Path) -> None:
    vocab = json.loads((slow / "vocab.json").read_text())
    write(slow, vocab=vocab | {"</s>": 300}, special_tokens_map={"eos_token": "</s>"})
    ours = GPT2Tokenizer.from_folder(slow, 311)
    assert ours.decode([*ours.encode("dog"), 300]) == "dog"
    assert 300 not in ours.encode("dog</s>")
    assert transformers_ids(slow, "dog</s>")[-1] == 300


def test_unknown_token_attributes_are_ignored(slow: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(slow, added_tokens=ADDED, special_tokens_map={"pad_token": flags("<pad>", True) | {"lstrap": True}})
    assert GPT2Tokenizer.from_folder(slow, 311).decode([302]) == ""
    assert capfd.readouterr() == ("", "")  # the tokenizers library prints a warning otherwise


def test_add_prefix_space_matches_transformers(slow: Path) -> None:
    write(slow, tokenizer_config={"add_prefix_space": True})
    ours = GPT2Tokenizer.from_folder(slow, 311)
    assert ours.encode("quick brown") == transformers_ids(slow, "quick brown")
    assert ours.encode("quick brown") == ours.encode(" quick brown")


def test_tokenizer_json_gives_the_same_ids_in_transformers(
    slow: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With a tokenizer.json, transformers reads the prepended token from it instead of from the settings."""
    settings = {"add_bos_token": True, "bos_token": "<speaker1>"}
    write(slow, added_tokens=ADDED, special_tokens_map=SPECIAL | {"bos_token": "<speaker1>"}, tokenizer_config=settings)
    other = tmp_path_factory.mktemp("other")
    (other / "tokenizer.json").write_text(GPT2Tokenizer.from_folder(slow, 311).json)
    write(other, special_tokens_map=SPECIAL | {"bos_token": "<speaker1>"}, tokenizer_config=settings)
    for text in TEXTS + MARKED:
        assert transformers_ids(other, text) == transformers_ids(slow, text), text
    assert transformers_ids(other, "a dog")[0] == 300
    assert GPT2Tokenizer.from_folder(other, 311).encode("a dog")[0] != 300


@pytest.mark.parametrize("id_", [301, 7])
def test_added_token_with_an_impossible_id_is_rejected(slow: Path, id_: int) -> None:
    write(slow, added_tokens={"<speaker1>": id_})
    with pytest.raises(TokenizerError, match=rf"added token '<speaker1>' the id {id_}, but it would get 300"):
        GPT2Tokenizer.from_folder(slow, 311)


def test_added_tokens_beyond_the_vocabulary_are_refused_in_texts(slow: Path) -> None:
    write(slow, added_tokens=ADDED)
    ours = GPT2Tokenizer.from_folder(slow, 302)
    assert ours.size == 302
    assert max(ours.vocab.values()) == 301
    with pytest.raises(RequestError, match=r"contains '<pad>', an added token with the id 302, .* has 302 ids"):
        ours.encode("<pad>")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("added_tokens", "{"),
        ("added_tokens", "[1]"),
        ("added_tokens", '{"<x>": "y"}'),
        ("added_tokens", '{"<x>": 1.5}'),
        ("special_tokens_map", '{"pad_token": 3}'),
        ("special_tokens_map", '{"additional_special_tokens": 3}'),
        ("tokenizer_config", '{"added_tokens_decoder": {"x": "<x>"}}'),
        ("tokenizer_config", '{"added_tokens_decoder": 3}'),
    ],
)
def test_malformed_file_is_rejected(slow: Path, name: str, content: str) -> None:
    (slow / f"{name}.json").write_text(content)
    with pytest.raises(TokenizerError, match=r"vocab\.json is not a tokenizer"):
        GPT2Tokenizer.from_folder(slow, 311)


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"我是好人", "good", "##ness", ",", "the", "cat", "cafe"]


@pytest.mark.parametrize("lower", [True, False])
def test_wordpiece_of_bert_is_read(tmp_path: Path, lower: bool) -> None:
    """Chinese GPT-2s have BERT's tokenizer, often as vocab.txt only."""
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    write(tmp_path, tokenizer_config={"tokenizer_class": "BertTokenizer", "do_lower_case": lower, "sep_token": "[SEP]"})
    ours = GPT2Tokenizer.from_folder(tmp_path, 20)
    write(tmp_path, config={"model_type": "gpt2"})
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("我是 good", "goodness, Café the Cat", "unknown 你", "[SEP] the", ""):
        expected = theirs(text, add_special_tokens=False, split_special_tokens=True).input_ids
        assert ours.encode(text) == expected, text
    assert ours.decode([5, 6, 9, 10, 11, 3, 12]) == theirs.decode([5, 6, 9, 10, 11, 3, 12], skip_special_tokens=True)
    (tmp_path / "tokenizer.json").write_text(ours.json)
    assert GPT2Tokenizer.from_folder(tmp_path, 20).json == ours.json


def test_dropout_does_not_change_ids(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["dropout"] = 0.9
    write(folder, tokenizer=content, tokenizer_config={"tokenizer_class": "PreTrainedTokenizerFast"})
    ours = GPT2Tokenizer.from_folder(folder, 311)
    assert {tuple(ours.encode(TEXT)) for _ in range(20)} == {tuple(transformers_ids_without_dropout(folder))}


def transformers_ids_without_dropout(folder: Path) -> list[int]:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["dropout"] = None
    return Tokenizer.from_str(json.dumps(content)).encode(TEXT).ids


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"normalizer": {"type": "NFC"}},
            r"has rules \(normalizer\) that its class in transformers, GPT2Tok",
        ),
        ({"pre_tokenizer": {"type": "Whitespace"}}, r"rules \(pre_tokenizer\)"),
        (
            {"model": {"type": "WordPiece", "unk_token": "a", "vocab": {"a": 0}}},
            "is a WordPiece tokenizer, and its ",
        ),
        ({}, "a tokenizer of the class T5Tokenizer, which max-gpt2 cannot reproduce"),
    ],
)
def test_tokenizer_that_cannot_be_reproduced_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    write(folder, tokenizer=json.loads((folder / "tokenizer.json").read_text()) | changes)
    if not changes:
        write(folder, tokenizer_config={"tokenizer_class": "T5Tokenizer"})
    with pytest.raises(TokenizerError, match=message + r"(?s:.*)PreTrainedTokenizerFast"):
        GPT2Tokenizer.from_folder(folder, 311)
