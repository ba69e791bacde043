"""Added tokens with any letters, and texts of which the tokenizer knows little or nothing."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.checkpoints import END_OF_TEXT, write_tokenizer
from max_gpt2.errors import RequestError, TokenizerError, UnknownTextWarning
from max_gpt2.generation import encode_prompt, read_bad_words
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.tokenizer.detokenizer import Detokenizer, TokenTable
from max_gpt2.verify.prompts import make_prompts


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    found: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text())
    return found


def with_tokens(content: dict[str, Any], *added: str, special: bool = False) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special}
    more = [{"id": 300 + index, "content": one} | plain for index, one in enumerate(added)]
    return content | {"added_tokens": content["added_tokens"] + more}


WORDS = st.lists(st.text("aéïčšß Ġ€🌍中", min_size=2, max_size=4), min_size=1, max_size=3, unique=True)


@given(words=WORDS, data=st.data())
def test_added_tokens_of_any_letters_round_trip(content: dict[str, Any], words: list[str], data: st.DataObject) -> None:
    tokenizer = GPT2Tokenizer(json.dumps(with_tokens(content, *words)))
    text = "".join(data.draw(st.lists(st.sampled_from([*words, "x", " é"]), max_size=6)))
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    detokenizer = Detokenizer(TokenTable(tokenizer))
    assert "".join(detokenizer.add([id_]).text for id_ in ids) + detokenizer.end().text == text
    for index, word in enumerate(words):
        assert tokenizer.decode([300 + index]) == TokenTable(tokenizer).name(300 + index) == word


def dna(folder: Path) -> GPT2Tokenizer:
    """Return a tokenizer that knows A, C, G, T and nothing else, and drops the rest."""
    vocab = {END_OF_TEXT: 0, "A": 1, "C": 2, "G": 3, "T": 4, "AC": 5}
    model = {"type": "BPE", "vocab": vocab, "merges": [["A", "C"]]}
    unused = ("normalizer", "pre_tokenizer", "post_processor", "truncation", "padding")
    content: dict[str, Any] = dict.fromkeys(unused) | {"version": "1.0", "added_tokens": [], "model": model}
    content["decoder"] = {"type": "Fuse"}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return GPT2Tokenizer.from_folder(folder, 20)


def test_text_that_encodes_to_nothing_is_an_error(tmp_path: Path) -> None:
    tokenizer = dna(tmp_path)
    for text in ("hello", " ", "é"):
        with pytest.raises(RequestError, match="encodes to nothing: this tokenizer knows none of its characters"):
            tokenizer.encode(text)
    assert tokenizer.encode("") == []
    assert encode_prompt(tokenizer, "") == [0]


def test_lost_characters_are_named(tmp_path: Path) -> None:
    tokenizer = dna(tmp_path)
    with pytest.warns(UnknownTextWarning, match=r"does not know these characters of the text: 'NX'\."):
        assert encode_prompt(tokenizer, "ACNG XT\nX") == [5, 3, 4]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encode_prompt(tokenizer, "ACGT\n") == [5, 3, 4]


def test_unknown_token_counts_as_lost(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\n[SEP]\nthe\ncat\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    tokenizer = GPT2Tokenizer.from_folder(tmp_path, 10)
    assert tokenizer.encode("the dog cat") == [2, 0, 3]
    assert tokenizer.unknown_text("the dog cat") == "dog"
    assert tokenizer.unknown_text("The Cat") == ""


def test_complete_byte_level_tokenizer_loses_nothing(content: dict[str, Any]) -> None:
    assert GPT2Tokenizer(json.dumps(content)).unknown_text("\x00é🌍 \u2028") == ""


def test_verification_needs_no_known_text(tmp_path: Path) -> None:
    prompts = make_prompts(dna(tmp_path), 30, 60)
    assert [prompt.name for prompt in prompts] == ["one token", "with emoji", "the full context"]
    assert prompts[-1].tokens[-2:] == [54, 56]
    nothing = GPT2Tokenizer(dna(tmp_path).json.replace('"G"', '"ж"'))
    assert [prompt.name for prompt in make_prompts(nothing, 30, 60)] == ["one token", "the full context"]


def test_special_tokens_are_named_by_their_text(content: dict[str, Any]) -> None:
    tokenizer = GPT2Tokenizer(json.dumps(with_tokens(content, "<|sep|>", special=True)))
    assert tokenizer.special_token_ids(["<|sep|>", "dog", END_OF_TEXT, "<|other|>"]) == [300, 299]
    assert read_bad_words(tokenizer, ["<|sep|>", [1, 2]]) == [[300], [1, 2]]


def test_start_token_is_the_one_of_the_config(content: dict[str, Any]) -> None:
    tokenizer = GPT2Tokenizer(json.dumps(content))
    assert tokenizer.start_id == tokenizer.end_of_text == 299
    tokenizer.bos_token_id = 7
    assert tokenizer.start_id == 7
    tokenizer.bos_token_id, tokenizer.vocab_size = None, 200
    with pytest.raises(TokenizerError, match="Give a prompt"):
        _ = tokenizer.start_id
