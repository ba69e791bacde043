"""Writing text with a compiled model."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from max_gpt2._progress import COMPILING, Runner, silently
from max_gpt2.checkpoint import (
    DEFAULT_OPTIONS,
    LoadOptions,
    LoadPlan,
    inspect_checkpoint,
    load_weights,
    read_tokenizer,
)
from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.generation.beam_search import BeamSearch, BeamText, check_beams, search
from max_gpt2.generation.logits import log_softmax, make_processors, make_sampler
from max_gpt2.generation.outputs import Generation, Recording, Score, Step
from max_gpt2.generation.params import Request, check_ids, check_prompt, check_room, fresh_seed
from max_gpt2.generation.scheduler import Writer, write_together
from max_gpt2.model import CompiledModel
from max_gpt2.model.compile_cache import load_or_compile
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.tokenizer.detokenizer import check_stop

#: How many texts are written at a time unless it is said: with more there are more tokens a second, and more memory.
BATCH_SIZE = 8


@dataclass(frozen=True)
class Engine:
    """A compiled model with its tokenizer."""

    model: CompiledModel
    tokenizer: GPT2Tokenizer

    def steps(self, request: Request) -> Iterator[Step]:
        """Yield the ids as they are written: one step at least, the last of which says why it is the last.

        An id that the tokenizer does not have is never written; an engine never repeats itself without a seed. Raises
        RequestError at once when the request cannot be carried out.
        """
        slots, room = self._check([request], 1)
        return (step for _, step in write_together(self.model, [self._writer(request)], slots, room))

    def generate(self, request: Request) -> Generation:
        """Carry a request out to its end; without a seed one is drawn and reported. Raises as `steps` does."""
        (generation,) = self.generate_all([request])
        return generation

    def generate_all(self, requests: Sequence[Request], batch_size: int = BATCH_SIZE) -> Iterator[Generation]:
        """Carry requests out, so many at a time, and yield each, in their order, when it and all before it are there.

        Each text is what it would be alone; a prompt that several have is computed once. Raises at once as `steps`
        does, and RequestError when there is no memory for so many.
        """
        slots, room = self._check(requests, batch_size)
        return self._in_order(requests, slots, room)

    def beam_search(self, request: Request, how: BeamSearch) -> list[BeamText]:
        """Return the most probable texts that a beam search finds, at most `num_beams`, the best first.

        Of the request's sampling only what changes the scores counts: nothing is drawn. Raises as `steps` does, and
        RequestError for stop strings, logprobs and a context that slides, which a beam search does not have.
        """
        check_beams(request)
        self._check([request], 1)
        config, size = self.model.config, self.tokenizer.size
        room = request.room(config)
        check_room(config, how.num_beams, room)
        endings = sorted({*config.eos_token_ids, *request.stop_ids})
        processors = make_processors(request.sampling, size, endings)
        most = min(request.max_new_tokens, config.n_positions + 1 - len(request.prompt_tokens))
        session = self.model.session(how.num_beams, room)
        beams = search(session, request.prompt_tokens, how, processors, size, endings, most)
        return [BeamText.of(beam, how, endings, self.tokenizer) for beam in beams]

    def _check(self, requests: Sequence[Request], batch_size: int) -> tuple[int, int]:
        """Return how many slots there have to be for how many tokens each."""
        for request in requests:
            check_request(self.model.config, self.tokenizer, request)
        if batch_size < 1:
            raise RequestError(f"The batch size {batch_size} is not a whole number from 1 on. Correct it.")
        slots = min(batch_size, len(requests))
        room = max((request.room(self.model.config) for request in requests), default=0)
        check_room(self.model.config, slots, room)
        return slots, room

    def _in_order(self, requests: Iterable[Request], slots: int, room: int) -> Iterator[Generation]:
        under_way: dict[Writer, Recording] = {}

        def started() -> Iterator[Writer]:
            for request in requests:
                writer = self._writer(request)
                under_way[writer] = Recording(request, writer.seed)
                yield writer

        for writer, step in write_together(self.model, started(), slots, room):
            under_way[writer].add(step)
            while under_way and under_way[first := next(iter(under_way))].ended:
                yield under_way.pop(first).generation()

    def _writer(self, request: Request) -> Writer:
        seed = request.sampling.seed
        return Writer(self.model.config, self.tokenizer, request, fresh_seed() if seed is None else seed)


def check_request(config: GPT2Config, tokenizer: GPT2Tokenizer, request: Request) -> None:
    """Raise RequestError when a model cannot carry a request out: nothing has to be loaded or compiled to know."""
    check_prompt(config, request.prompt_tokens, request.context_overflow)
    if request.max_new_tokens < 0:
        raise RequestError(f"max_new_tokens {request.max_new_tokens} is negative. Use a number from 0 on.")
    check_ids(request.stop_ids, config.vocab_size, "stop id")
    if request.logprobs is not None and not 0 <= request.logprobs <= config.vocab_size:
        raise RequestError(f"logprobs {request.logprobs} is not in 0 .. {config.vocab_size}. Ask for fewer.")
    make_sampler(request.sampling, 0, tokenizer.size)
    check_stop(request.stop)


def check_score(config: GPT2Config, tokens: Sequence[int]) -> None:
    """Raise RequestError for fewer than two ids, more than the context, and ids out of range."""
    if len(tokens) < 2:
        raise RequestError(f"The text has only {len(tokens)} tokens. Give two at least: the first has no probability.")
    check_prompt(config, tokens)


def score(engine: Engine, tokens: Sequence[int]) -> Score:
    """Score a text's ids; raises as `check_score` does."""
    check_score(engine.model.config, tokens)
    ids = list(tokens)
    chances = log_softmax(engine.model.logits(np.array([ids]))[0, :-1])  # [seq - 1, vocab]
    found = chances[np.arange(len(ids) - 1), ids[1:]]
    return Score(ids, [None, *map(float, found)])


@dataclass(frozen=True)
class Loaded:
    """An engine, and the seconds that it took to load the weights and to compile."""

    engine: Engine
    load_s: float
    compile_s: float


@dataclass(frozen=True)
class OpenedModel:
    """A checkpoint that can be loaded; requests to it can be checked already."""

    plan: LoadPlan
    tokenizer: GPT2Tokenizer
    options: LoadOptions = DEFAULT_OPTIONS

    @property
    def config(self) -> GPT2Config:
        """The model's config."""
        return self.plan.config

    def load(self, run: Runner = silently) -> Loaded:
        """Load the weights and compile; raises CheckpointError when they are damaged."""
        started = time.perf_counter()
        allow_nonfinite = self.options.allow_nonfinite
        weights = run("Loading the weights", lambda: load_weights(self.plan, allow_nonfinite=allow_nonfinite))
        loaded = time.perf_counter()
        compiled = run(COMPILING, lambda: load_or_compile(self.config, weights, self.options.kernels))
        return Loaded(Engine(compiled, self.tokenizer), loaded - started, time.perf_counter() - loaded)


def open_model(model: str | Path, options: LoadOptions = DEFAULT_OPTIONS) -> OpenedModel:
    """Inspect "demo", a hub id, a folder or a file of weights; raises MaxGPT2Error as `load_checkpoint` does."""
    plan = inspect_checkpoint(model, options)[2]
    return OpenedModel(plan, read_tokenizer(plan, options.tokenizer), options)
