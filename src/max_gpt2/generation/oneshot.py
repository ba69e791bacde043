"""One prompt from a cold start: check the request, load, compile, write."""

import time
from dataclasses import dataclass
from pathlib import Path

from max_gpt2.checkpoint import inspect_checkpoint, load_weights, read_tokenizer
from max_gpt2.errors import RequestError
from max_gpt2.generation.engine import Engine, Generation, check_request, encode_prompt
from max_gpt2.generation.sampling import make_sampler
from max_gpt2.model import compile_model
from max_gpt2.progress import COMPILING, Runner, silently
from max_gpt2.tokenizer import GPT2Tokenizer


@dataclass(frozen=True)
class Request:
    """What to write: a text or the ids of a prompt (None and None for an empty text), and how."""

    prompt: str | None
    prompt_ids: list[int] | None
    max_new_tokens: int
    temperature: float
    top_k: int
    seed: int | None

    def tokens(self, tokenizer: GPT2Tokenizer) -> list[int]:
        """Return the prompt's ids; raises RequestError when there is both a text and ids."""
        if self.prompt is not None and self.prompt_ids is not None:
            raise RequestError("There is a prompt and there are prompt ids. Give only one of them.")
        return encode_prompt(tokenizer, self.prompt or "") if self.prompt_ids is None else self.prompt_ids


@dataclass(frozen=True)
class OneShot:
    """A generation with what came before it: the prompt as text, and the seconds to load and to compile."""

    prompt: str
    generation: Generation
    load_s: float
    compile_s: float


def generate_once(
    model: str,
    request: Request,
    run: Runner = silently,
    *,
    tokenizer: str | Path | None = None,
    allow_pickle: bool = False,
    allow_nonfinite: bool = False,
) -> OneShot:
    """Write with "demo", a hub id, a folder or a file. Everything is checked before anything is loaded or compiled.

    The options are those of `load_checkpoint`.

    Raises MaxGPT2Error when the checkpoint or the request is refused.
    """
    _, config, plan = inspect_checkpoint(model, allow_pickle=allow_pickle)
    text_to_ids = read_tokenizer(plan, tokenizer)
    prompt = check_request(config, request.tokens(text_to_ids), request.max_new_tokens)
    make_sampler(request.temperature, request.top_k, request.seed or 0)
    started = time.perf_counter()
    weights = run("Loading the weights", lambda: load_weights(plan, allow_nonfinite=allow_nonfinite))
    loaded = time.perf_counter()
    compiled = run(COMPILING, lambda: compile_model(config, weights))
    ready = time.perf_counter()
    engine = Engine(compiled, text_to_ids)
    generation = run(
        "Writing",
        lambda: engine.generate(
            prompt,
            max_new_tokens=request.max_new_tokens,
            temperature=request.temperature,
            top_k=request.top_k,
            seed=request.seed,
        ),
    )
    return OneShot(text_to_ids.decode(prompt), generation, loaded - started, ready - loaded)
