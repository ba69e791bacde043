import pytest
from hypothesis import given
from hypothesis import strategies as st

from max_gpt2.checkpoint import read_tokenizer
from max_gpt2.checkpoint.load import inspect_checkpoint
from max_gpt2.errors import RequestError
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.tokenizer.detokenizer import TextStream

TOKENIZER: GPT2Tokenizer = read_tokenizer(inspect_checkpoint("demo")[2])
ids = st.lists(st.integers(0, TOKENIZER.size - 1), max_size=12)
texts = st.text("ab é🌍.\n", max_size=12)


def pieces(tokens: list[int], *stop: str) -> tuple[list[str], bool]:
    """What a stream shows for each token, and in the end; it is not asked any more once it has stopped."""
    stream = TextStream(TOKENIZER, stop)
    shown = []
    for token in tokens:
        shown.append(stream.add(token))
        if stream.stopped:
            break
    return [*shown, stream.end()], stream.stopped


@given(ids)
def test_the_pieces_are_the_text(tokens: list[int]) -> None:
    assert "".join(pieces(tokens)[0]) == TOKENIZER.decode(tokens)


@given(texts, st.lists(st.text("ab é🌍.\n", min_size=1, max_size=4), max_size=3))
def test_the_text_is_cut_before_the_first_stop_string(text: str, stop: list[str]) -> None:
    """Byte by byte, so that characters and stop strings span tokens."""
    byte_tokens = [id_ for byte in text.encode() for id_ in [BYTE_IDS[byte]]]
    shown, stopped = pieces(byte_tokens, *stop)
    found = [place for one in stop if (place := text.find(one)) >= 0]
    assert stopped is bool(found)
    # Of two stop strings the one that is complete first counts, as it does for whoever writes token by token.
    ends = [text.find(one) + len(one) for one in stop if one in text]
    seen = text[: min(ends)] if ends else text
    expected = min((place for one in stop if (place := seen.find(one)) >= 0), default=len(text))
    assert "".join(shown) == text[:expected]


def test_a_character_is_shown_when_it_is_complete() -> None:
    shown, _ = pieces([BYTE_IDS[byte] for byte in "é🌍!".encode()])
    assert shown == ["", "é", "", "", "", "🌍", "!", ""]


def test_what_stays_incomplete_is_shown_in_the_end() -> None:
    shown, _ = pieces([BYTE_IDS[byte] for byte in "🌍".encode()[:3]])
    assert shown == ["", "", "", "\ufffd"]


def test_what_may_become_a_stop_string_is_held_back() -> None:
    tokens = [BYTE_IDS[byte] for byte in b"a\n\nb\n\n\n"]
    assert pieces(tokens, "\n\n\n") == (["a", "", "", "\n\nb", "", "", "", ""], True)


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(RequestError, match="stop string is empty"):
        TextStream(TOKENIZER, ["a", ""])


def _byte_ids() -> dict[int, int]:
    """The ids of single bytes, found out by the library's own alphabet: each byte is one character there."""
    from tokenizers import pre_tokenizers

    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocab = TOKENIZER._tokenizer.get_vocab()
    found: dict[int, int] = {}
    for code in range(0x800):
        encoded = chr(code).encode()
        characters = splitter.pre_tokenize_str(chr(code))[0][0]
        found |= {byte: vocab[character] for byte, character in zip(encoded, characters, strict=True)}
    emoji = "🌍"
    return found | {
        byte: vocab[character]
        for byte, character in zip(emoji.encode(), splitter.pre_tokenize_str(emoji)[0][0], strict=True)
    }


BYTE_IDS = _byte_ids()
