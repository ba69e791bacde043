from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from max_gpt2.serve.frontend.choices import ChoiceBuilder
from max_gpt2.serve.frontend.job import Job, PromptIds, SamplingOptions
from max_gpt2.serve.frontend.worker_client import Finish, Token, WorkerChunk
from max_gpt2.serve.settings import ServedModel


def builder(served: ServedModel, max_tokens: int, stop: list[str] | None = None) -> ChoiceBuilder:
    sampling = SamplingOptions(0.0, 1.0, -1, 0.0, 0.0, 0.0, 1.0, False, stop or [], {})
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


TEXT = "the dog and the cat sat on the mat"


@given(
    cuts=st.sets(st.integers(0, 34)),
    stop=st.lists(st.sampled_from(["t", "he", "dog a", "cat", " sat on", "zz", "mat", TEXT]), max_size=3),
)
def test_choice_does_not_depend_on_how_tokens_are_grouped(served: ServedModel, cuts: set[int], stop: list[str]) -> None:
    """A busy worker sends several tokens in one chunk, and generates more before it is cancelled."""
    ids = served.tokenizer.encode(TEXT)
    text = [served.tokenizer.decode(ids[: index + 1]) for index in range(len(ids))]
    ends = [index + 1 for index, part in enumerate(text) if any(one in part for one in stop)]
    one = builder(served, len(ids), stop)
    found, tokens, finish = "", 0, None
    for first, last in pairwise(sorted({0, *(cut for cut in cuts if cut < len(ids)), len(ids)})):
        delta = one.add(WorkerChunk([], [Token(id_, -1.0) for id_ in ids[first:last]], None))
        found, tokens, finish = found + delta.text, tokens + len(delta.tokens), delta.finish
        if one.done:
            break
    assert one.count == (ends[0] if ends else len(ids))
    assert one.total_logprob == -one.count
    assert finish == ("stop" if ends else "length")
    seen = text[one.count - 1]
    assert found == seen[: min((seen.find(part) for part in stop if part in seen), default=len(seen))]
    assert tokens <= one.count
