import pytest
from hypothesis import given
from hypothesis import strategies as st

from max_gpt2.serve.front.served import Served
from max_gpt2.serve.front.text import GrowingText
from max_gpt2.serve.front.token_text import TokenText
from max_gpt2.tokenizer.detokenizer import Detokenizer, TokenTable


def written(texts: TokenText, ids: list[int], stop: list[str], at_a_time: int = 1) -> tuple[str, list[int], bool]:
    growing = GrowingText(texts, stop)
    pieces, offsets = [], []
    for first in range(0, len(ids), at_a_time):
        one = growing.add(ids[first : first + at_a_time])
        pieces.append(one.piece)
        offsets += one.offsets
    last = growing.end()
    return "".join(pieces) + last.piece, offsets + last.offsets, growing.stopped


@given(ids=st.lists(st.integers(0, 310), max_size=30), at_a_time=st.integers(1, 5))
def test_the_text_is_the_tokenizers(served: Served, ids: list[int], at_a_time: int) -> None:
    text, offsets, _ = written(served.texts, ids, [], at_a_time)
    assert text == served.tokenizer.decode(ids)
    assert len(offsets) == len(ids)
    assert offsets == sorted(offsets)


@given(
    ids=st.lists(st.integers(0, 299), max_size=30),
    stop=st.lists(st.text("ab e\n", min_size=1, max_size=3), max_size=3),
    at_a_time=st.integers(1, 4),
)
def test_stop_strings_cut_where_the_engine_cuts(
    served: Served, ids: list[int], stop: list[str], at_a_time: int
) -> None:
    theirs, pieces = Detokenizer(TokenTable(served.tokenizer), stop), []
    for id_ in ids:
        pieces.append(theirs.add([id_]).text)
        if theirs.stopped:
            break
    whole = "".join(pieces) + theirs.end().text
    text, offsets, stopped = written(served.texts, ids, stop, at_a_time)
    assert stopped is theirs.stopped
    if at_a_time == 1 or not stopped:
        assert text == whole
    assert not any(one in text for one in stop)
    assert all(offset <= len(text) for offset in offsets)


def test_a_stop_string_over_several_tokens_is_held_back(served: Served) -> None:
    growing = GrowingText(served.texts, ["xyz"])
    ids = served.tokenizer.encode("axyz")
    pieces = [growing.add([id_]).piece for id_ in ids]
    assert "".join(pieces) == "a"
    assert growing.stopped
    growing = GrowingText(served.texts, ["xyz"])
    pieces = [growing.add([id_]).piece for id_ in served.tokenizer.encode("axyb")]
    assert "".join(pieces) + growing.end().piece == "axyb"
    assert not growing.stopped


def test_tokens_have_a_place_once_their_text_is_shown(served: Served) -> None:
    growing = GrowingText(served.texts, ["xyz"])
    offsets = [growing.add([id_]).offsets for id_ in served.tokenizer.encode("axyb")]
    assert offsets == [[0], [], [], [1, 2, 3]]
    growing = GrowingText(served.texts, ["xyz"])
    offsets = [growing.add([id_]).offsets for id_ in served.tokenizer.encode("axyz")]
    assert offsets == [[0], [], [], []]  # the token at the cut has none
    assert growing.end().offsets == []


def test_a_character_of_several_tokens_comes_whole(served: Served) -> None:
    ids = served.tokenizer.encode("é🙂")
    assert len(ids) > 3
    growing = GrowingText(served.texts)
    pieces = [growing.add([id_]).piece for id_ in ids]
    assert [one for one in pieces if one] == ["é", "🙂"]


def test_the_name_of_a_token(served: Served) -> None:
    (e_acute, second) = served.tokenizer.encode("é")
    assert served.texts.name(e_acute) == "bytes:\\xc3"
    assert served.texts.name(second) == "bytes:\\xa9"
    assert served.texts.name(299) == "<|endoftext|>"
    assert served.texts.raw(299) == b""
    assert served.texts.name(310) == ""
    names = [served.texts.name(id_) for id_ in range(300)]
    assert len(set(names)) == 300


@pytest.mark.parametrize("text", ["", "\n", " the", "日本"])
def test_the_text_of_ids(served: Served, text: str) -> None:
    assert served.texts.text(served.tokenizer.encode(text)) == text
