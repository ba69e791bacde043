"""A tokenizer that is not byte-level: texts, names and offsets are those of its own decoder."""

import dataclasses
import string
from collections.abc import Iterator

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from max_gpt2.serve.settings import ServedModel
from max_gpt2.tokenizer import GPT2Tokenizer
from tests.serve.frontend.servers import Api, api


@pytest.fixture(scope="module")
def metaspace(served: ServedModel) -> ServedModel:
    """Return the tiny model with 300 tokens, every second of which starts a word."""
    words = [a + b for a in string.ascii_lowercase for b in ("", *string.ascii_lowercase)][:140]
    tokens = [token for word in words for token in ("\u2581" + word, word)]
    tokens += [f"<0x{byte:02X}>" for byte in b"\xc3\xa9\xf0\x9f\x99\x82"] + ["\u2581\u2581"]
    library = Tokenizer(models.BPE({token: id_ for id_, token in enumerate(dict.fromkeys(tokens))}, [], unk_token="a"))
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    library.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return ServedModel("tiny", dataclasses.replace(served.config), GPT2Tokenizer(library.to_str()))


@pytest.fixture(scope="module")
def server(metaspace: ServedModel) -> Iterator[Api]:
    with api(metaspace) as made:
        yield made


@pytest.mark.parametrize("first", [0, 5, 100, 261, 272])
def test_texts_are_those_of_the_decoder(server: Api, metaspace: ServedModel, first: int) -> None:
    decode = metaspace.tokenizer.decode
    answer = server.complete([first], max_tokens=16, temperature=0, ignore_eos=True, logprobs=0)
    (choice,) = answer["choices"]
    assert choice["text"] == decode(list(range(first + 1, first + 17)))
    assert "\u2581" not in str(answer)
    prompt = [first, first + 3, first + 2]
    (choice,) = server.complete(prompt, max_tokens=0, echo=True)["choices"]
    assert choice["text"] == decode(prompt)


def test_names_and_offsets_follow_the_text(server: Api, metaspace: ServedModel) -> None:
    (choice,) = server.complete([9], max_tokens=30, temperature=0, logprobs=1)["choices"]
    names, offsets = choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"]
    text = " " + choice["text"]  # the decoder drops the space before the first word
    assert "".join(names) == text
    assert offsets == [max(0, len("".join(names[:index])) - 1) for index in range(30)]
    scored = {"max_tokens": 0, "echo": True, "logprobs": 0}
    (choice,) = server.complete(list(range(10, 40)), **scored)["choices"]
    assert choice["text"] == metaspace.tokenizer.decode(list(range(10, 40)))
    assert choice["logprobs"]["tokens"] == names
    assert choice["logprobs"]["text_offset"] == offsets


def test_bytes_of_a_character_have_names(metaspace: ServedModel) -> None:
    ids = [metaspace.tokenizer.vocab[f"<0x{byte:02X}>"] for byte in "é".encode()]
    assert [metaspace.token_table.name(id_) for id_ in ids] == ["bytes:\\xc3", "bytes:\\xa9"]
    assert b"".join(map(metaspace.token_table.raw, ids)) == "é".encode()
