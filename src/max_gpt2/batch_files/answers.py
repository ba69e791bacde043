"""What becomes of one line, and of all of them together."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from max_gpt2.batch_files.fields import request_of, seed_of_line
from max_gpt2.batch_files.lines import Line
from max_gpt2.batch_files.output import Record
from max_gpt2.batch_files.run import Answer
from max_gpt2.generation import Engine, OpenedModel, Request, check_request


def check_defaults(opened: OpenedModel, defaults: Request) -> None:
    """Raise RequestError when no line could be carried out with the options of the run."""
    check_request(opened.config, opened.tokenizer, replace(defaults, prompt_tokens=[0]))


def generation_options(defaults: Request) -> dict[str, Any]:
    """Return the options that decide about the texts; the seed is recorded apart from them."""
    options = asdict(defaults)
    options |= options.pop("sampling")
    return {name: value for name, value in options.items() if name not in ("prompt_tokens", "seed")}


def generation_answer(engine: Engine, defaults: Request, seed: int) -> Answer:
    """Return what continues the prompt of a line; `seed` is that of the run."""

    def answer(line: Line) -> Record:
        request = request_of(line.fields, defaults, engine.tokenizer, seed_of_line(seed, line.number))
        written = engine.generate(request)
        record: Record = {
            **({"prompt": line.fields["prompt"]} if "prompt" in line.fields else {}),
            "prompt_tokens": written.prompt_tokens,
            "tokens": written.tokens,
            "text": written.text,
            "finish_reason": written.finish_reason,
            "seed": written.seed,
        }
        if request.logprobs is not None:
            record["logprobs"] = [asdict(one) for one in written.logprobs]
        return record

    return answer


@dataclass
class Tally:
    """What all records come to: those that are errors, and the tokens of the others."""

    errors: int = 0
    tokens: int = 0

    def add(self, record: Record) -> None:
        """Count one."""
        if "error" in record:
            self.errors += 1
        else:
            self.tokens += len(record["tokens"])
