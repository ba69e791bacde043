"""The detokenizer returns the text of the whole sequence, piece by piece, at a bounded cost for each token."""

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
    """Return the text delta of each token and of the end; tokens after a stop string are not added."""
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
def test_the_window_decoder_gives_the_same_text(tokens: list[int]) -> None:
    decoder = WindowDecoder(TOKENIZER.decode)
    assert "".join(map(decoder.add, byte_tokens("é🌍 a🌍"))) + decoder.end() == "é🌍 a🌍"
    valid = TOKENIZER.encode(TOKENIZER.decode(tokens).replace("\ufffd", ""))
    decoder = WindowDecoder(TOKENIZER.decode)
    assert "".join(map(decoder.add, valid)) + decoder.end() == TOKENIZER.decode(valid)


def test_a_tokenizer_without_byte_level_decodes_with_its_own_decoder() -> None:
    content = json.loads(TOKENIZER.json)
    content["decoder"] = {"type": "Fuse"}
    fused = GPT2Tokenizer(json.dumps(content))
    tokens = TOKENIZER.encode("a dog é")
    assert "".join(deltas(tokens, table=TokenTable(fused))[0]) == fused.decode(tokens) != TOKENIZER.decode(tokens)


def test_few_ids_are_decoded_for_each_token(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def decode(tokens: Sequence[int]) -> str:
        sizes.append(len(tokens))
        return TOKENIZER.decode(tokens)

    decoder = WindowDecoder(decode)
    for token in byte_tokens("é🌍 a" * 50) + [BYTE_IDS[0xFF]] * 100:
        decoder.add(token)
    assert max(sizes) <= 16
    monkeypatch.setattr(GPT2Tokenizer, "decode", None)  # byte-level text never needs it
    deltas(byte_tokens("é🌍 a" * 50))


@given(texts, st.lists(st.text("ab é🌍.\n", min_size=1, max_size=4), max_size=3))
def test_text_is_cut_before_the_first_stop_string(text: str, stop: list[str]) -> None:
    """Byte by byte, so that characters and stop strings span tokens."""
    found, stopped = deltas(byte_tokens(text), *stop)
    ends = [text.find(one) + len(one) for one in stop if one in text]
    assert stopped is bool(ends)
    # Of several stop strings, the one that is completed first counts.
    seen = text[: min(ends)] if ends else text
    expected = min((index for one in stop if (index := seen.find(one)) >= 0), default=len(text))
    assert "".join(found) == text[:expected]


def test_characters_are_returned_whole() -> None:
    assert deltas(byte_tokens("é🌍!"))[0] == ["", "é", "", "", "", "🌍", "!", ""]


def test_an_incomplete_character_becomes_a_replacement_character_at_the_end() -> None:
    assert deltas(byte_tokens("🌍")[:3])[0] == ["", "", "", "\ufffd"]


def test_a_possible_stop_string_is_held_back() -> None:
    assert deltas(byte_tokens("a\n\nb\n\n\n"), "\n\n\n") == (["a", "", "", "\n\nb", "", "", "", ""], True)


def test_tokens_have_the_offset_of_their_text() -> None:
    detokenizer = Detokenizer(TABLE, ["xyz"])
    assert [detokenizer.add([id_]).offsets for id_ in byte_tokens("axyb")] == [[0], [], [], [1, 2, 3]]
    detokenizer = Detokenizer(TABLE, ["xyz"])
    assert [detokenizer.add([id_]).offsets for id_ in byte_tokens("axyz")] == [[0], [], [], []]
    assert detokenizer.end().offsets == []


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(RequestError, match="stop string is empty"):
        Detokenizer(TABLE, ["a", ""])


def test_special_tokens_have_no_text_unless_requested() -> None:
    end = TOKENIZER.end_of_text
    assert TABLE.text([end]) == ""
    assert TABLE.text([end], special=True) == TABLE.name(end) == "<|endoftext|>"
    assert TABLE.name(BYTE_IDS[0xC3]) == "bytes:\\xc3"


def byte_tokens(text: str) -> list[int]:
    return [BYTE_IDS[byte] for byte in text.encode()]


def _byte_ids() -> dict[int, int]:
    """Return the ids of single bytes, from the library's own alphabet: each byte is one character there."""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocab, found = TOKENIZER.vocab, dict[int, int]()
    for text in [*map(chr, range(0x800)), "🌍"]:
        characters = splitter.pre_tokenize_str(text)[0][0]
        found |= {byte: vocab[character] for byte, character in zip(text.encode(), characters, strict=True)}
    return found | {0xFF: vocab["ÿ"]}


BYTE_IDS = _byte_ids()
