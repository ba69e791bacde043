import pytest

from max_gpt2.serve.settings import ServedModel


def test_every_token_has_a_unique_name(served: ServedModel) -> None:
    (e_acute, second) = served.tokenizer.encode("é")
    assert served.token_table.name(e_acute) == "bytes:\\xc3"
    assert served.token_table.name(second) == "bytes:\\xa9"
    assert served.token_table.name(299) == "<|endoftext|>"
    assert served.token_table.raw(299) == b""
    assert served.token_table.name(310) == ""
    names = [served.token_table.name(id_) for id_ in range(300)]
    assert len(set(names)) == 300


@pytest.mark.parametrize("text", ["", "\n", " the", "日本"])
def test_text_of_ids_round_trips(served: ServedModel, text: str) -> None:
    assert served.token_table.text(served.tokenizer.encode(text)) == text
