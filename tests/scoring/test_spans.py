"""Tokens with their characters: for byte-level and other tokenizers, for texts and for ids."""

import json
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from max_gpt2.checkpoint import Checkpoint
from max_gpt2.errors import RequestError, UnknownTextWarning
from max_gpt2.scoring.spans import TokenizedText, token_text, tokenize
from max_gpt2.tokenizer import GPT2Tokenizer

VOCAB = 311
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Checkpoint) -> GPT2Tokenizer:
    return tiny_checkpoint.tokenizer


@given(ANY_TEXT)
def test_spans_cover_the_bytes_of_each_token(tokenizer: GPT2Tokenizer, text: str) -> None:
    found = tokenize(tokenizer, VOCAB, text)
    assert (found.text, found.ids) == (text, tokenizer.encode(text))
    letters = [index for index, letter in enumerate(text) for _ in letter.encode()]
    ends = list(accumulate(len(tokenizer.token_bytes(id_)) for id_ in found.ids))
    starts = [0, *ends][: len(ends)]
    expected = [(letters[start], letters[end - 1] + 1) for start, end in zip(starts, ends, strict=True)]
    assert found.spans.tolist() == [list(span) for span in expected]


@given(ANY_TEXT)
def test_ids_of_a_text_give_the_same_spans(tokenizer: GPT2Tokenizer, text: str) -> None:
    found = tokenize(tokenizer, VOCAB, text)
    again = tokenize(tokenizer, VOCAB, found.ids)
    assert (again.text, again.ids, again.spans.tolist()) == (found.text, found.ids, found.spans.tolist())


@given(st.lists(st.integers(0, VOCAB - 1), max_size=20))
def test_any_ids_have_spans_within_their_text(tokenizer: GPT2Tokenizer, ids: list[int]) -> None:
    found = tokenize(tokenizer, VOCAB, ids)
    assert found.text == tokenizer.decode(ids, special=True)
    check_spans(found)
    for id_, (start, end) in zip(ids, found.spans.tolist(), strict=True):
        assert (start == end) == (not tokenizer.token_bytes(id_))
        text = token_text(tokenizer, id_)
        if "\\x" not in text and "\ufffd" not in found.text:
            assert found.text[start:end] == text


@pytest.mark.parametrize("text", ["猫", "🌍é", "a"])
def test_ids_of_long_texts_have_spans(tokenizer: GPT2Tokenizer, text: str) -> None:
    rng = np.random.default_rng(3)
    for damage in (0, 1, 40):
        ids = tokenizer.encode(text * 700)
        for at in rng.integers(0, len(ids), damage):
            ids[at] = tokenizer.encode("猫")[1]
        found = tokenize(tokenizer, VOCAB, ids)
        assert found.text == tokenizer.decode(ids)
        check_spans(found)


def check_spans(found: TokenizedText) -> None:
    """Check that spans are in order, without gaps."""
    assert found.spans.shape == (len(found.ids), 2)
    assert (np.diff(found.spans[:, 0]) >= 0).all()
    assert (found.spans[:, 0] <= found.spans[:, 1]).all()
    if found.text:
        assert (found.spans[0, 0], found.spans[-1, 1]) == (0, len(found.text))
        assert (found.spans[1:, 0] <= found.spans[:-1, 1]).all()


def test_parts_of_a_character_are_escaped(tokenizer: GPT2Tokenizer) -> None:
    found = tokenize(tokenizer, VOCAB, "a🌍")
    assert [token_text(tokenizer, id_) for id_ in found.ids] == ["a", "\\xf0", "\\x9f", "\\x8c", "\\x8d"]
    assert found.spans.tolist() == [[0, 1]] + [[1, 2]] * 4


def prefix_space(tokenizer: GPT2Tokenizer) -> GPT2Tokenizer:
    content = json.loads(tokenizer.json)
    content["pre_tokenizer"]["add_prefix_space"] = True
    return GPT2Tokenizer(json.dumps(content))


def lowercase(tokenizer: GPT2Tokenizer) -> GPT2Tokenizer:
    content = json.loads(tokenizer.json)
    content["normalizer"] = json.loads(normalizers.Lowercase().__getstate__())
    return GPT2Tokenizer(json.dumps(content))


def test_space_that_the_tokenizer_adds_is_not_in_the_spans(tokenizer: GPT2Tokenizer) -> None:
    found = tokenize(prefix_space(tokenizer), VOCAB, "the dög")
    check_spans(found)
    assert found.text[slice(*found.spans[0])] in ("the", "t", "th")
    plain = tokenize(prefix_space(tokenizer), VOCAB, " the dög")
    assert (plain.spans - 1).clip(0).tolist() == found.spans.tolist()


def test_normalized_text_uses_the_offsets_of_the_library(tokenizer: GPT2Tokenizer) -> None:
    found = tokenize(lowercase(tokenizer), VOCAB, "THE É dog")
    check_spans(found)
    assert [span for span in found.spans.tolist() if span[0] == 4] == [[4, 5], [4, 5]]


@pytest.fixture(scope="module")
def words() -> GPT2Tokenizer:
    """A tokenizer of whole words with a leading space (Metaspace), which has no byte-level alphabet."""
    vocab = {one: id_ for id_, one in enumerate(["<unk>", "▁the", "▁dog", "▁", "s", "<|endoftext|>"])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return GPT2Tokenizer(tokenizer.to_str())


def test_other_tokenizers_have_spans(words: GPT2Tokenizer) -> None:
    with pytest.warns(UnknownTextWarning, match="does not know these characters"):
        found = tokenize(words, 6, "the cat dog")
    assert found.ids == [1, 0, 2]
    check_spans(found)
    assert [found.text[start:end] for start, end in found.spans.tolist()] == ["the", " cat", " dog"]
    decoded = tokenize(words, 6, [1, 2, 5, 2])
    check_spans(decoded)
    pieces = [decoded.text[start:end] for start, end in decoded.spans.tolist()]
    assert pieces == ["the", " dog", "<|endoftext|>", " dog"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a\ud800", "not valid Unicode at position 1"),
        ([1, VOCAB], "The id 311 is not in 0 .. 310"),
        ([1, -1], "The id -1 is not in"),
        ([1, 2.5], r"The id 2\.5 is not an integer"),
    ],
)
def test_invalid_source_is_named(tokenizer: GPT2Tokenizer, source: str | list[int], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        tokenize(tokenizer, VOCAB, source)


def test_numpy_ids_are_accepted(tokenizer: GPT2Tokenizer) -> None:
    found = tokenize(tokenizer, VOCAB, list(np.array([1, 2])))
    assert found.ids == [1, 2]
    assert {type(id_) for id_ in found.ids} == {int}
