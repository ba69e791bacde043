"""What becomes of one line, and of all of them together."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from max_gpt2.batch_files.fields import check_fields, request_of, seed_of_line, tokens_of
from max_gpt2.batch_files.lines import Line
from max_gpt2.batch_files.output import Record
from max_gpt2.batch_files.run import Answer
from max_gpt2.generation import Engine, OpenedModel, Request, check_request, perplexity, score


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


def score_answer(engine: Engine) -> Answer:
    """Return what scores the text of a line."""

    def answer(line: Line) -> Record:
        check_fields(line.fields, "text", {})
        scored = score(engine, tokens_of(line.fields, "text", engine.tokenizer))
        return {
            **({"text": line.fields["text"]} if "text" in line.fields else {}),
            "tokens": scored.tokens,
            "logprobs": scored.logprobs,
            "logprob": scored.logprob,
            "perplexity": scored.perplexity,
        }

    return answer


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
