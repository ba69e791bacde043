import pytest

from max_gpt2.serve.front.job import Job, Sampling
from max_gpt2.serve.front.prompts import PromptIds
from max_gpt2.serve.front.served import Served
from max_gpt2.serve.front.upstream import Finish, Piece, Token
from max_gpt2.serve.front.writing import Writer


def writer(served: Served, max_tokens: int) -> Writer:
    sampling = Sampling(0.0, 1.0, -1, 0.0, 0.0, 0.0, 1.0, False, [], {})
    return Writer(Job(PromptIds("prompt", [5]), max_tokens, 0, sampling, logprobs=0), served)


@pytest.mark.parametrize("finish", [None, "length"])
def test_what_the_worker_writes_beyond_max_tokens_is_left_out(served: Served, finish: Finish | None) -> None:
    ids = served.tokenizer.encode("abcdef")
    one = writer(served, 4)
    parts = [one.add(Piece([], [Token(id_, -1.0) for id_ in ids[:3]], None))]
    assert not one.done
    parts.append(one.add(Piece([], [Token(id_, -1.0) for id_ in ids[3:]], finish)))
    assert one.done
    assert "".join(part.text for part in parts) == served.tokenizer.decode(ids[:4])
    assert [token.offset for part in parts for token in part.tokens] == [0, 1, 2, 3]
    assert parts[-1].finish == "length"
    assert one.count == 4
    assert one.total_logprob == -4.0
