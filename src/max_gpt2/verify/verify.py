"""Load one checkpoint into MAX and into PyTorch, or two into MAX, and compare what they compute."""

import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from max_gpt2._progress import Runner, silently
from max_gpt2.checkpoint import (
    DEFAULT_OPTIONS,
    Checkpoint,
    LoadOptions,
    LoadPlan,
    inspect_checkpoint,
    load_weights,
    read_tokenizer,
)
from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.verify.compare import compare, compare_logits
from max_gpt2.verify.models import Answers, MaxSide, Prompt, Reference, Side, make_prompts
from max_gpt2.verify.report import PromptResult, Report

GREEDY_TOKENS = 16


@dataclass(frozen=True)
class Questions:
    """The prompts, and the `vocab` ids and `n_positions` positions that every side has."""

    tokenizer: GPT2Tokenizer
    prompts: list[Prompt]
    vocab: int
    n_positions: int

    def ask(self, side: Side) -> Answers:
        """Return a side's answers; each prompt is continued by 16 tokens, or fewer where the context ends."""
        rows = [prompt.tokens for prompt in self.prompts]
        answers = [side.answer(row, min(GREEDY_TOKENS, self.n_positions - len(row))) for row in rows]
        return Answers(side.wte(), answers)


def make_questions(plan: LoadPlan, other: LoadPlan | None, tokenizer: GPT2Tokenizer) -> Questions:
    """Make the prompts for one checkpoint, or for two; raises RequestError when the two have nothing to compare."""
    vocab, n_positions = plan.config.vocab_size, plan.config.n_positions
    if other:
        _check_comparable(plan, other)
        vocab, n_positions = min(vocab, other.config.vocab_size), min(n_positions, other.config.n_positions)
    prompts = make_prompts(tokenizer, n_positions, vocab)
    if (largest := max(max(prompt.tokens) for prompt in prompts)) >= vocab:
        raise RequestError(
            f"The prompts need the id {largest}, and only {vocab} ids are in both checkpoints. Compare others."
        )
    return Questions(tokenizer, prompts, vocab, n_positions)


def _check_comparable(plan: LoadPlan, other: LoadPlan) -> None:
    names = [name for name in ("n_layer", "n_embd") if getattr(plan.config, name) != getattr(other.config, name)]
    if names:
        sizes = ", ".join(f"{name} {getattr(plan.config, name)} and {getattr(other.config, name)}" for name in names)
        raise RequestError(
            f"{plan.origin.path} and {other.origin.path} cannot be compared: {sizes}. Give two of one size."
        )


#: Makes a side of a config, the canonical weights and a runner.
MakeSide = Callable[[GPT2Config, Mapping[str, np.ndarray], Runner], Side]
#: Whose reading of the files PyTorch computed with.
OWN_READING = "transformers, which read the checkpoint itself"
OUR_READING = "transformers, with the weights as max-gpt2 read them"


def verify(
    model: str | Path,
    run: Runner = silently,
    options: LoadOptions = DEFAULT_OPTIONS,
    *,
    against: str | Path | None = None,
    ours: MakeSide | None = None,
) -> Report:
    """Compare MAX with transformers on "demo", a hub id, a folder or a file, or with MAX on another one, `against`.

    The reference computes first and is freed before the model loads, so that one copy of the weights is in memory at
    a time. transformers reads the folders of Hugging Face itself; of all else it is given the weights as max-gpt2 read
    them. Two checkpoints are compared without PyTorch; they need the same width and depth, and where one has more ids
    or positions than the other, those that both have are compared.
    `ours` makes another model to be compared instead of this package's.

    Raises MaxGPT2Error when a checkpoint is refused, when PyTorch is missing, or when two have nothing to compare.
    """
    plan = inspect_checkpoint(model, options)[2]
    other = None if against is None else inspect_checkpoint(against, options)[2]
    questions = make_questions(plan, other, read_tokenizer(plan, options.tokenizer))
    max_side = partial(MaxSide.compile, kernels=options.kernels)
    started = time.perf_counter()
    if other:
        expected, _ = _ask_max(other, questions, run, options, max_side)
        sides, reference = (str(model), str(against)), "MAX, as the first side"
    else:
        expected = run("Computing with PyTorch", lambda: _ask_torch(plan, questions, options))
        sides, reference = (
            ("your model" if ours else "MAX", "PyTorch"),
            OWN_READING if plan.origin.transformers_reads_it else OUR_READING,
        )
    timing = {"reference_s": time.perf_counter() - started}
    answers, timing_of_max = _ask_max(plan, questions, run, options, ours or max_side)
    wte = compare(answers.wte[: questions.vocab], expected.wte[: questions.vocab])
    results = _results(questions, answers, expected)
    return Report(str(model), sides, reference, wte, results, timing | timing_of_max, _peak_memory())


def _ask_max(
    plan: LoadPlan, questions: Questions, run: Runner, options: LoadOptions, make_side: MakeSide
) -> tuple[Answers, dict[str, float]]:
    stamps = [time.perf_counter()]
    weights = run("Loading the weights for MAX", lambda: load_weights(plan, allow_nonfinite=options.allow_nonfinite))
    stamps.append(time.perf_counter())
    side = make_side(plan.config, weights, run)
    stamps.append(time.perf_counter())
    answers = run("Computing with MAX", lambda: questions.ask(side))
    return answers, {"load_s": stamps[1] - stamps[0], "compile_s": stamps[2] - stamps[1]}


def _ask_torch(plan: LoadPlan, questions: Questions, options: LoadOptions) -> Answers:
    if plan.origin.transformers_reads_it:
        return questions.ask(Reference(plan.origin.path))
    weights = load_weights(plan, allow_nonfinite=options.allow_nonfinite)
    checkpoint = Checkpoint(plan.origin.folder, plan.config, weights, questions.tokenizer, plan)
    return questions.ask(Reference(checkpoint))


def _results(questions: Questions, answers: Answers, expected: Answers) -> list[PromptResult]:
    decode, vocab = questions.tokenizer.decode, questions.vocab
    return [
        PromptResult(
            prompt,
            {name: compare(state, theirs.states[name]) for name, state in ours.states.items()},
            compare_logits(ours.logits[..., :vocab], theirs.logits[..., :vocab]),
            len(theirs.continuation),
            ours.continuation == theirs.continuation,
            decode(prompt.tokens),
            (decode(ours.continuation), decode(theirs.continuation)),
        )
        for prompt, ours, theirs in zip(questions.prompts, answers.prompts, expected.prompts, strict=True)
    ]


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # Linux counts in KiB, macOS in bytes
