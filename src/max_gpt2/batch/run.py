"""Answer the lines of a file, into another file."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, TypeVar

from max_gpt2.batch.files import InputFile, Line, OutputFile, Record
from max_gpt2.batch.records import check_fields, request_of, seed_of_line, tokens_of
from max_gpt2.errors import MaxGPT2Error, RequestError, StoppedError
from max_gpt2.generation import Engine, Generation, OpenedModel, Request, check_request, perplexity, score

#: What answers lines: a record for each, in their order.
Answers = Callable[[Iterable[Line]], Iterator[Record]]
Found = TypeVar("Found")


def attempt(line: Line, answer: Callable[[Line], Found]) -> Found | MaxGPT2Error:
    """Return the answer to a line, or why there is none."""
    try:
        if line.problem is not None:
            raise RequestError(line.problem)
        return answer(line)
    except MaxGPT2Error as error:
        return error


def finished(line: Line, found: Record | MaxGPT2Error) -> Record:
    """Return the record of a line: its number, its id if it has one, and what was found."""
    id_ = line.fields.get("id")
    return {
        "line": line.number,
        **({"id": id_} if isinstance(id_, str | int) else {}),
        **({"error": str(found)} if isinstance(found, MaxGPT2Error) else found),
    }


@dataclass
class Tally:
    """What all records come to: those that are errors, and the tokens of the others.

    Of scores also the logarithm of the probability of all texts, and how many tokens it is of.
    """

    errors: int = 0
    tokens: int = 0
    logprob: float = 0.0
    counted: int = 0

    def add(self, record: Record) -> None:
        """Count one."""
        if "error" in record:
            self.errors += 1
            return
        self.tokens += len(record["tokens"])
        if "logprob" in record:
            self.logprob += math.nan if record["logprob"] is None else record["logprob"]  # null, as JSON has it
            self.counted += len(record["tokens"]) - 1

    @property
    def perplexity(self) -> float | None:
        """The perplexity of all texts together, each token of which counts alike; None when there are none."""
        return perplexity(self.logprob, self.counted) if self.counted else None


#: How many lines are looked at together, as a multiple of the batch: those that end early make place for others.
_KNOWN = 8


def check_defaults(opened: OpenedModel, defaults: Request) -> None:
    """Raise RequestError when no line could be carried out with the options of the run."""
    check_request(opened.config, opened.tokenizer, replace(defaults, prompt_tokens=[0]))


def generation_options(defaults: Request) -> dict[str, Any]:
    """Return the options that decide about the texts; the seed is recorded apart from them."""
    options = asdict(defaults)
    options |= options.pop("sampling")
    return {name: value for name, value in options.items() if name not in ("prompt_tokens", "seed")}


def generation_answers(engine: Engine, defaults: Request, seed: int, batch_size: int) -> Answers:
    """Return what continues the prompts of lines, `batch_size` at a time; `seed` is that of the run."""

    def request(line: Line) -> Request:
        asked = request_of(line.fields, defaults, engine.tokenizer, seed_of_line(seed, line.number))
        check_request(engine.model.config, engine.tokenizer, asked)
        return asked

    def answers(lines: Iterable[Line]) -> Iterator[Record]:
        waiting = iter(lines)
        while some := list(islice(waiting, _KNOWN * batch_size)):
            requests = [attempt(line, request) for line in some]
            texts = _generate(engine, [one for one in requests if isinstance(one, Request)], batch_size)
            for line, asked in zip(some, requests, strict=True):
                if isinstance(asked, MaxGPT2Error):
                    yield finished(line, asked)
                else:
                    found = next(texts)
                    yield finished(line, found if isinstance(found, MaxGPT2Error) else _record(line, asked, found))

    return answers


def _generate(engine: Engine, requests: list[Request], batch_size: int) -> Iterator[Generation | MaxGPT2Error]:
    """Carry requests out together; once one of them fails, the rest one by one."""
    done = 0
    try:
        for generation in engine.generate_all(requests, batch_size):
            done += 1
            yield generation
    except MaxGPT2Error:
        for request in requests[done:]:
            try:
                yield engine.generate(request)
            except MaxGPT2Error as error:
                yield error


def _record(line: Line, request: Request, written: Generation) -> Record:
    return {
        **({"prompt": line.fields["prompt"]} if "prompt" in line.fields else {}),
        "prompt_tokens": written.prompt_tokens,
        "tokens": written.tokens,
        "text": written.text,
        "finish_reason": written.finish_reason,
        "seed": written.seed,
        **({} if request.logprobs is None else {"logprobs": [asdict(one) for one in written.logprobs]}),
    }


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


Tell = Callable[[Record], None]


def write_answers(source: InputFile, output: OutputFile, answers: Answers, tell: Tell) -> None:
    """Write a record for each line that the output does not have yet, and hand it to `tell` when it is in the file."""
    output.begin()
    after = source.numbers[output.done - 1] if output.done else 0
    for record in answers(source.lines(after)):
        output.write(record)
        tell(record)


@contextmanager
def kept_on_ctrl_c(output: OutputFile, total: int) -> Iterator[None]:
    """Say on Ctrl-C what is kept and how to go on: raises StoppedError."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise StoppedError(
            f"Stopped by Ctrl-C after {output.done} of {total} lines. They are in {output.path}; run the same "
            "command again to go on."
        ) from error
