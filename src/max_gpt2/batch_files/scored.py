"""Score the texts of lines."""

from collections.abc import Iterable, Iterator

from max_gpt2.batch_files.answers import Answers, attempt, finished
from max_gpt2.batch_files.fields import check_fields, tokens_of
from max_gpt2.batch_files.lines import Line
from max_gpt2.batch_files.output import Record
from max_gpt2.generation import Engine, score


def score_answers(engine: Engine) -> Answers:
    """Return what scores the texts of lines."""

    def record(line: Line) -> Record:
        check_fields(line.fields, "text", {})
        scored = score(engine, tokens_of(line.fields, "text", engine.tokenizer))
        return {
            **({"text": line.fields["text"]} if "text" in line.fields else {}),
            "tokens": scored.tokens,
            "logprobs": scored.logprobs,
            "logprob": scored.logprob,
            "perplexity": scored.perplexity,
        }

    def answers(lines: Iterable[Line]) -> Iterator[Record]:
        for line in lines:
            yield finished(line, attempt(line, record))

    return answers
