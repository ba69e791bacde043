"""The engine: generate and search with a compiled model."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from max_gpt2._progress import COMPILING, Runner, silently
from max_gpt2.checkpoint import (
    DEFAULT_OPTIONS,
    LoadOptions,
    LoadPlan,
    inspect_checkpoint,
    load_weights,
    loading_label,
    read_tokenizer,
)
from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.generation.beam_search import BeamConstraints, BeamOutput, BeamSearch, check_beams, search
from max_gpt2.generation.logits import make_processors, make_sampler
from max_gpt2.generation.outputs import Generation, OutputBuilder, TokenOutput
from max_gpt2.generation.params import Request, check_cache_memory, check_ids, check_prompt, fresh_seed
from max_gpt2.generation.scheduler import SequenceState, generate_batched
from max_gpt2.generation.speculation import (
    ModelSpeculation,
    NgramSpeculation,
    Speculation,
    check_draft,
    check_kernels,
)
from max_gpt2.model import CompiledModel
from max_gpt2.model.compile_cache import load_or_compile
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.tokenizer.stop_strings import check_stop
from max_gpt2.weights import Weights

#: The default batch size. Larger batches have a higher throughput and use more memory.
BATCH_SIZE = 8


@dataclass(frozen=True)
class Engine:
    """A compiled model with its tokenizer. With `speculation`, it generates the same tokens, perhaps faster."""

    model: CompiledModel
    tokenizer: GPT2Tokenizer
    speculation: Speculation | None = None

    def stream(self, request: Request) -> Iterator[TokenOutput]:
        """Yield the tokens as they are generated: at least one output, the last with a `finish_reason`.

        Ids unknown to the tokenizer are never generated. Without a seed, a random one is used. Raises RequestError
        immediately, before the first output, for an invalid request.
        """
        slots, capacity = self._check([request], 1)
        sequence = self._start(request)
        return (output for _, output in generate_batched(self.model, [sequence], slots, capacity))

    def generate(self, request: Request) -> Generation:
        """Return the complete continuation, with the seed used. Raises RequestError for an invalid request."""
        (generation,) = self.generate_all([request])
        return generation

    def generate_all(self, requests: Sequence[Request], batch_size: int = BATCH_SIZE) -> Iterator[Generation]:
        """Yield the continuations of requests in order, generating `batch_size` sequences at a time.

        Batching does not change the results. Duplicate prompts are computed once. Raises RequestError immediately for
        an invalid request or a KV cache that does not fit in memory.
        """
        slots, capacity = self._check(requests, batch_size)
        return self._in_order(requests, slots, capacity)

    def beam_search(self, request: Request, options: BeamSearch) -> list[BeamOutput]:
        """Return at most `num_beams` sequences found by beam search, best first.

        Of the request's sampling parameters, only the logits processors apply; nothing is sampled. Raises RequestError
        for an invalid request, and for stop strings, logprobs and context shifts, which are not supported.
        """
        check_beams(request)
        self._check([request], 1, can_shift=False)
        config, size = self.model.config, self.tokenizer.size
        capacity = request.capacity(config)
        check_cache_memory(config, options.num_beams, capacity)
        stop_token_ids = sorted({*config.eos_token_ids, *request.stop_ids})
        processors = make_processors(request.sampling, size, stop_token_ids)
        max_length = min(request.max_new_tokens, config.n_positions + 1 - len(request.prompt_tokens))
        constraints = BeamConstraints(processors, size, stop_token_ids, max_length)
        session = self.model.session(options.num_beams, capacity)
        beams = search(session, request.prompt_tokens, options, constraints)
        return [BeamOutput.of(beam, options, stop_token_ids, self.tokenizer) for beam in beams]

    def _check(self, requests: Sequence[Request], batch_size: int, *, can_shift: bool = True) -> tuple[int, int]:
        """Check the requests; return the number of slots and the capacity of each in tokens."""
        for request in requests:
            check_request(self.model.config, self.tokenizer, request, can_shift=can_shift)
        if batch_size < 1:
            raise RequestError(f"The batch size {batch_size} is not a positive integer. Use 1 or more.")
        slots = min(batch_size, len(requests))
        capacity = max((request.capacity(self.model.config) for request in requests), default=0)
        check_cache_memory(self.model.config, slots, capacity)
        if self.speculation is not None:
            self.speculation.check(self.model.kernels, slots)
        return slots, capacity

    def _in_order(self, requests: Iterable[Request], slots: int, capacity: int) -> Iterator[Generation]:
        builders: dict[SequenceState, OutputBuilder] = {}  # in the order of the requests

        def start_all() -> Iterator[SequenceState]:
            for request in requests:
                sequence = self._start(request)
                builders[sequence] = OutputBuilder(request, sequence.seed)
                yield sequence

        for sequence, output in generate_batched(self.model, start_all(), slots, capacity):
            builders[sequence].add(output)
            while builders and builders[first := next(iter(builders))].finished:
                yield builders.pop(first).build(first.drafts)

    def _start(self, request: Request) -> SequenceState:
        seed = fresh_seed() if request.sampling.seed is None else request.sampling.seed
        drafter = self.speculation.start() if self.speculation is not None else None
        return SequenceState(self.model.config, self.tokenizer, request, seed, drafter)


def check_request(config: GPT2Config, tokenizer: GPT2Tokenizer, request: Request, *, can_shift: bool = True) -> None:
    """Raise RequestError if a request is invalid for a model; needs neither the weights nor a compiled graph."""
    check_prompt(config, request.prompt_tokens, request.context_overflow, can_shift=can_shift)
    if request.max_new_tokens < 0:
        raise RequestError(f"max_new_tokens {request.max_new_tokens} is negative. Use 0 or more.")
    check_ids(request.stop_ids, config.vocab_size, "stop id")
    if request.logprobs is not None and not 0 <= request.logprobs <= config.vocab_size:
        raise RequestError(
            f"logprobs {request.logprobs} is not in 0 .. {config.vocab_size}. Use a value in this range."
        )
    make_sampler(request.sampling, 0, tokenizer.size)
    check_stop(request.stop)


@dataclass(frozen=True)
class Loaded:
    """An engine, with the seconds spent on loading the weights and on compilation."""

    engine: Engine
    load_s: float
    compile_s: float


@dataclass(frozen=True)
class ModelSource:
    """An inspected checkpoint: its config and tokenizer suffice to check requests; `load` loads the weights."""

    plan: LoadPlan
    tokenizer: GPT2Tokenizer
    options: LoadOptions = DEFAULT_OPTIONS

    @property
    def config(self) -> GPT2Config:
        """Return the model's config."""
        return self.plan.config

    def load_weights(self, run: Runner = silently) -> Weights:
        """Return the canonical weights; raises CheckpointError if they are damaged."""
        allow_nonfinite = self.options.allow_nonfinite
        return run(loading_label(self.plan), lambda: load_weights(self.plan, allow_nonfinite=allow_nonfinite))

    def load(self, run: Runner = silently, drafting: "SpeculationSource | None" = None) -> Loaded:
        """Load the weights and compile the model; raises CheckpointError if the weights are damaged."""
        started = time.perf_counter()
        weights = self.load_weights(run)
        loaded = time.perf_counter()
        compiled = run(COMPILING, lambda: load_or_compile(self.config, weights, self.options.kernels))
        compile_s = time.perf_counter() - loaded
        speculation = None if drafting is None else drafting.load(run)
        return Loaded(Engine(compiled, self.tokenizer, speculation), loaded - started, compile_s)


@dataclass(frozen=True)
class SpeculationSource:
    """A way to draft whose model, if it has one, is inspected but not loaded."""

    draft: ModelSource | None

    def load(self, run: Runner = silently) -> Speculation:
        """Load the draft model; raises CheckpointError if its weights are damaged."""
        return NgramSpeculation() if self.draft is None else ModelSpeculation(self.draft.load(run).engine.model)


def open_speculation(draft: str, opened: ModelSource) -> SpeculationSource:
    """Inspect "ngram" or the draft model of an opened model: "demo", a hub id, a folder or a file of weights.

    Raises the errors of `load_checkpoint`, and RequestError if the draft model has another tokenizer or the kernels
    cannot check drafts.
    """
    check_kernels(opened.options.kernels)
    if draft == "ngram":
        return SpeculationSource(None)
    found = open_model(draft, replace(opened.options, tokenizer=None, adapters=()))
    check_draft(opened.tokenizer, found.config, found.tokenizer)
    return SpeculationSource(found)


def open_model(model: str | Path, options: LoadOptions = DEFAULT_OPTIONS) -> ModelSource:
    """Inspect "demo", a hub id, a folder or a file of weights; raises the errors of `load_checkpoint`."""
    plan = inspect_checkpoint(model, options)[2]
    return ModelSource(plan, read_tokenizer(plan, options.tokenizer), options)
