"""Incremental detokenization yields the text of the whole sequence at a bounded cost per token."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from max_gpt2.checkpoint import read_tokenizer
from max_gpt2.checkpoint.load import inspect_checkpoint
from max_gpt2.errors import RequestError
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.tokenizer.detokenizer import Detokenizer, TokenTable, WindowDecoder

TOKENIZER: GPT2Tokenizer = read_tokenizer(inspect_checkpoint("demo")[2])
TABLE = TokenTable(TOKENIZER)
ids = st.lists(st.integers(0, TOKENIZER.size - 1), max_size=12)
texts = st.text("ab é🌍.\n", max_size=12)


def deltas(tokens: list[int], *stop: str, table: TokenTable = TABLE) -> tuple[list[str], bool]:
    """Return the text deltas of the tokens and of the end, up to a stop string, and whether there was one."""
    detokenizer = Detokenizer(table, stop)
    found = []
    for token in tokens:
        found.append(detokenizer.add([token]).text)
        if detokenizer.stopped:
            break
    return [*found, detokenizer.end().text], detokenizer.stopped


@given(ids)
def test_deltas_join_to_the_decoded_text(tokens: list[int]) -> None:
    assert "".join(deltas(tokens)[0]) == TOKENIZER.decode(tokens)


@given(ids)
def test_window_decoder_gives_the_same_text(tokens: list[int]) -> None:
    decoder = WindowDecoder(TOKENIZER.decode)
    assert "".join(map(decoder.add, byte_tokens("é🌍 a🌍"))) + decoder.end() == "é🌍 a🌍"
    valid = TOKENIZER.encode(TOKENIZER.decode(tokens).replace("\ufffd", ""))
    decoder = WindowDecoder(TOKENIZER.decode)
    assert "".join(map(decoder.add, valid)) + decoder.end() == TOKENIZER.decode(valid)


def test_tokenizer_without_byte_level_uses_its_own_decoder() -> None:
    content = json.loads(TOKENIZER.json)
    content["decoder"] = {"type": "Fuse"}
    fused = GPT2Tokenizer(json.dumps(content))
    tokens = TOKENIZER.encode("a dog é")
    assert "".join(deltas(tokens, table=TokenTable(fused))[0]) == fused.decode(tokens) != TOKENIZER.decode(tokens)


def test_decoded_ids_per_token_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def decode(tokens: Sequence[int]) -> str:
        sizes.append(len(tokens))
        return TOKENIZER.decode(tokens)

    decoder = WindowDecoder(decode)
    for token in byte_tokens("é🌍 a" * 50) + [BYTE_IDS[0xFF]] * 100:
        decoder.add(token)
    assert max(sizes) <= 16
    monkeypatch.setattr(GPT2Tokenizer, "decode", None)  # byte-level tokenizers do not use it
    deltas(byte_tokens("é🌍 a" * 50))


@given(texts, st.lists(st.text("ab é🌍.\n", min_size=1, max_size=4), max_size=3))
def test_text_is_cut_before_the_first_stop_string(text: str, stop: list[str]) -> None:
    """One token per byte, so that characters and stop strings span tokens."""
    found, stopped = deltas(byte_tokens(text), *stop)
    ends = [text.find(one) + len(one) for one in stop if one in text]
    assert stopped is bool(ends)
    # The stop string that is completed first wins.
    seen = text[: min(ends)] if ends else text
    expected = min((index for one in stop if (index := seen.find(one)) >= 0), default=len(text))
    assert "".join(found) == text[:expected]


def test_characters_are_returned_whole() -> None:
    assert deltas(byte_tokens("é🌍!"))[0] == ["", "é", "", "", "", "🌍", "!", ""]


def test_incomplete_character_is_replaced_at_the_end() -> None:
    assert deltas(byte_tokens("🌍")[:3])[0] == ["", "", "", "\ufffd"]


def test_possible_stop_string_is_held_back() -> None:
    assert deltas(byte_tokens("a\n\nb\n\n\n"), "\n\n\n") == (["a", "", "", "\n\nb", "", "", "", ""], True)


def test_offsets_follow_the_emitted_text() -> None:
    detokenizer = Detokenizer(TABLE, ["xyz"])
    assert [detokenizer.add([id_]).offsets for id_ in byte_tokens("axyb")] == [[0], [], [], [1, 2, 3]]
    detokenizer = Detokenizer(TABLE, ["xyz"])
    assert [detokenizer.add([id_]).offsets for id_ in byte_tokens("axyz")] == [[0], [], [], []]
    assert detokenizer.end().offsets == []


def test_empty_stop_string_is_rejected() -> None:
    with pytest.raises(RequestError, match="stop string is empty"):
        Detokenizer(TABLE, ["a", ""])


def test_special_tokens_have_no_text_unless_requested() -> None:
    end = TOKENIZER.end_of_text
    assert TABLE.text([end]) == ""
    assert TABLE.text([end], special=True) == TABLE.name(end) == "<|endoftext|>"
    assert TABLE.name(BYTE_IDS[0xC3]) == "bytes:\\xc3"


def test_special_token_spelled_like_a_stop_string_stops() -> None:
    detokenizer = Detokenizer(TABLE, ["<|endoftext|>", "ab"])
    delta = detokenizer.add([*byte_tokens("xa"), TOKENIZER.end_of_text, *byte_tokens("c")])
    assert (delta.text, delta.offsets, detokenizer.tokens, detokenizer.stopped) == ("xa", [0, 1], 3, True)
    assert detokenizer.add(byte_tokens("d")).text == detokenizer.end().text == ""


def byte_tokens(text: str) -> list[int]:
    return [BYTE_IDS[byte] for byte in text.encode()]


def _byte_ids() -> dict[int, int]:
    """Return the id of each byte; the byte-level alphabet of the tokenizers library has one character per byte."""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocab, found = TOKENIZER.vocab, dict[int, int]()
    for text in [*map(chr, range(0x800)), "🌍"]:
        characters = splitter.pre_tokenize_str(text)[0][0]
        found |= {byte: vocab[character] for byte, character in zip(text.encode(), characters, strict=True)}
    return found | {0xFF: vocab["ÿ"]}


BYTE_IDS = _byte_ids()
