"""Continue the prompts of lines."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from itertools import islice
from typing import Any

from max_gpt2.batch_files.answers import Answers, attempt, finished
from max_gpt2.batch_files.fields import request_of, seed_of_line
from max_gpt2.batch_files.lines import Line
from max_gpt2.batch_files.output import Record
from max_gpt2.errors import MaxGPT2Error
from max_gpt2.generation import Engine, Generation, OpenedModel, Request, check_request

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
