import pytest

from max_gpt2.serve.frontend.choices import ChoiceBuilder
from max_gpt2.serve.frontend.job import Job, PromptIds, SamplingOptions
from max_gpt2.serve.frontend.worker_client import Finish, Token, WorkerChunk
from max_gpt2.serve.settings import ServedModel


def builder(served: ServedModel, max_tokens: int) -> ChoiceBuilder:
    sampling = SamplingOptions(0.0, 1.0, -1, 0.0, 0.0, 0.0, 1.0, False, [], {})
    return ChoiceBuilder(Job(PromptIds("prompt", [5]), max_tokens, 0, sampling, logprobs=0), served)


@pytest.mark.parametrize("finish", [None, "length"])
def test_tokens_beyond_max_tokens_are_dropped(served: ServedModel, finish: Finish | None) -> None:
    ids = served.tokenizer.encode("abcdef")
    one = builder(served, 4)
    deltas = [one.add(WorkerChunk([], [Token(id_, -1.0) for id_ in ids[:3]], None))]
    assert not one.done
    deltas.append(one.add(WorkerChunk([], [Token(id_, -1.0) for id_ in ids[3:]], finish)))
    assert one.done
    assert "".join(delta.text for delta in deltas) == served.tokenizer.decode(ids[:4])
    assert [token.offset for delta in deltas for token in delta.tokens] == [0, 1, 2, 3]
    assert deltas[-1].finish == "length"
    assert one.count == 4
    assert one.total_logprob == -4.0
