"""Generate a continuation of each line of a file."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

from max_gpt2.batch.corpus.dataset import check_outside
from max_gpt2.batch.corpus.source import open_source
from max_gpt2.batch.files import OutputFile, Record, run_identity
from max_gpt2.batch.inputs import USUAL_COLUMNS, Line
from max_gpt2.batch.records import line_request, line_seed
from max_gpt2.batch.run import (
    BatchFiles,
    BatchSummary,
    OpenProgress,
    ProcessLines,
    Totals,
    attempt,
    fill,
    make_record,
)
from max_gpt2.errors import MaxGPT2Error, RequestError
from max_gpt2.generation import Engine, Generation, Loaded, ModelSource, Request, check_request

Load = Callable[[], Loaded]

#: Lines read ahead, as a multiple of the batch size, so that slots of finished sequences are refilled.
_READ_AHEAD = 8


def check_defaults(opened: ModelSource, defaults: Request) -> None:
    """Raise RequestError when the options of the run are invalid for every line."""
    check_request(opened.config, opened.tokenizer, replace(defaults, prompt_tokens=[0]))


def generation_options(defaults: Request) -> dict[str, Any]:
    """Return the options that determine the output; the seed is recorded separately."""
    options = asdict(defaults)
    options |= options.pop("sampling")
    return {name: value for name, value in options.items() if name not in ("prompt_tokens", "seed")}


def make_generator(engine: Engine, defaults: Request, seed: int, batch_size: int) -> ProcessLines:
    """Return a function that continues the prompts of lines, `batch_size` at a time; `seed` is the seed of the run."""

    def request(line: Line) -> Request:
        own_request = line_request(line.fields, defaults, engine.tokenizer, line_seed(seed, line.number))
        check_request(engine.model.config, engine.tokenizer, own_request)
        return own_request

    def process(lines: Iterable[Line]) -> Iterator[Record]:
        waiting = iter(lines)
        while some := list(islice(waiting, _READ_AHEAD * batch_size)):
            requests = [attempt(line, request) for line in some]
            generations = _generate(engine, [one for one in requests if isinstance(one, Request)], batch_size)
            for line, own_request in zip(some, requests, strict=True):
                if isinstance(own_request, MaxGPT2Error):
                    yield make_record(line, own_request)
                else:
                    found = next(generations)
                    yield make_record(
                        line, found if isinstance(found, MaxGPT2Error) else _record(line, own_request, found)
                    )

    return process


def _generate(engine: Engine, requests: list[Request], batch_size: int) -> Iterator[Generation | MaxGPT2Error]:
    """Run requests as a batch; after a failure, run the rest one by one."""
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


def _record(line: Line, request: Request, generation: Generation) -> Record:
    return {
        **({"prompt": line.fields["prompt"]} if "prompt" in line.fields else {}),
        "prompt_tokens": generation.prompt_tokens,
        "tokens": generation.tokens,
        "text": generation.text,
        "finish_reason": generation.finish_reason,
        "seed": generation.seed,
        **({} if request.logprobs is None else {"logprobs": [asdict(one) for one in generation.logprobs]}),
    }


@dataclass(frozen=True)
class GenerationSummary(BatchSummary):
    """Result of a generation run; `seed` is the seed of the run."""

    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        return {**super().to_dict(), "seed": self.seed}


def generate_file(
    opened: ModelSource,
    defaults: Request,
    files: BatchFiles,
    load: Load,
    progress: OpenProgress,
    *,
    batch_size: int,
) -> GenerationSummary:
    """Continue each line that the output does not have yet, `batch_size` at a time.

    Raises MaxGPT2Error when the files or the options are invalid.
    """
    if files.target is None:
        raise RequestError("--input needs --output. Add --output FILE.")
    check_defaults(opened, defaults)
    check_outside(files.source, files.target)
    source = open_source(files.source, "prompt", files.columns)
    options = generation_options(defaults)
    if files.columns != USUAL_COLUMNS:
        options |= {"text_column": files.columns.text, "id_column": files.columns.id}
    run, totals = run_identity("generate", source, opened, options), Totals()
    with OutputFile(files.target, run, seed=defaults.sampling.seed, force=files.force) as output:
        make = lambda: make_generator(load().engine, defaults, output.seed, batch_size)  # noqa: E731
        resumed = fill(output, source, totals, make, progress)
        return GenerationSummary(files, source.count, resumed, totals, output.seed)
