"""Load one checkpoint into MAX and into PyTorch, and compare what they compute."""

import resource
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from max_gpt2.checkpoint import Checkpoint, inspect_checkpoint, load_checkpoint, read_tokenizer
from max_gpt2.model import CompiledModel, compile_model
from max_gpt2.progress import COMPILING, Runner, silently
from max_gpt2.verify.compare import Comparison, compare, criterion, worst
from max_gpt2.verify.prompts import Prompt, make_prompts
from max_gpt2.verify.reference import Reference

GREEDY_TOKENS = 16
#: Whose reading of the files PyTorch computed with.
OWN_READING = "transformers, which read the checkpoint itself"
OUR_READING = "transformers, with the weights as max-gpt2 read them"


@dataclass(frozen=True)
class PromptResult:
    """One prompt: the logits' difference, and whether both continue it greedily with the same tokens."""

    prompt: Prompt
    logits: Comparison
    greedy_tokens: int
    greedy_match: bool


@dataclass(frozen=True)
class Report:
    """What a verification found. Times are in seconds; the memory is the peak of this process, PyTorch included."""

    model: str
    results: list[PromptResult]
    timing: dict[str, float]
    peak_memory_bytes: int
    reference: str

    @property
    def total(self) -> Comparison:
        """The comparison over all prompts."""
        return worst([result.logits for result in self.results])

    @property
    def passed(self) -> bool:
        """Whether MAX and PyTorch are equal on every prompt."""
        return all(result.logits.equal for result in self.results)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "model": self.model,
            "reference": self.reference,
            "passed": self.passed,
            "criterion": criterion([result.logits for result in self.results]),
            "max_abs_diff": self.total.max_abs_diff,
            "max_rel_diff": self.total.max_rel_diff,
            "argmax_agreement": self.total.argmax_agreement,
            "greedy_match": all(result.greedy_match for result in self.results),
            "prompts": [
                {
                    "name": result.prompt.name,
                    "tokens": len(result.prompt.tokens),
                    **asdict(result.logits),
                    "passed": result.logits.equal,
                    "criterion": result.logits.criterion,
                    "greedy_tokens": result.greedy_tokens,
                    "greedy_match": result.greedy_match,
                }
                for result in self.results
            ],
            "timing": self.timing,
            "peak_memory_bytes": self.peak_memory_bytes,
        }


def verify(
    model: str | Path,
    run: Runner = silently,
    *,
    tokenizer: str | Path | None = None,
    allow_pickle: bool = False,
    allow_nonfinite: bool = False,
) -> Report:
    """Compare MAX with transformers on "demo", a hub id, a folder or a file, with the options of `load_checkpoint`.

    PyTorch computes first and is freed before MAX loads, so that one copy of the weights is in memory at a time.
    transformers reads the folders of Hugging Face itself; of all else it is given the weights as max-gpt2 read them.
    Raises MaxGPT2Error when the checkpoint is refused or PyTorch is missing.
    """
    _, config, plan = inspect_checkpoint(model, allow_pickle=allow_pickle)
    prompts = make_prompts(read_tokenizer(plan, tokenizer), config)
    load = partial(
        load_checkpoint,
        plan.origin.path,
        tokenizer=tokenizer,
        allow_pickle=allow_pickle,
        allow_nonfinite=allow_nonfinite,
    )
    theirs = plan.origin.transformers_reads_it
    started = time.perf_counter()
    expected = run(
        "Computing with PyTorch",
        lambda: _reference_answers(plan.origin.path if theirs else load(), prompts, config.n_positions),
    )
    referred = time.perf_counter()
    checkpoint = run("Loading the weights for MAX", load)
    loaded = time.perf_counter()
    compiled = run(COMPILING, lambda: compile_model(config, checkpoint.state_dict))
    ready = time.perf_counter()
    results = run("Computing with MAX", lambda: _results(compiled, prompts, expected))
    timing = {"reference_s": referred - started, "load_s": loaded - referred, "compile_s": ready - loaded}
    return Report(str(model), results, timing, _peak_memory(), OWN_READING if theirs else OUR_READING)


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # Linux counts in KiB, macOS in bytes


def _reference_answers(
    checkpoint: Path | Checkpoint, prompts: list[Prompt], n_positions: int
) -> list[tuple[np.ndarray, list[int]]]:
    reference = Reference(checkpoint)
    answers = []
    for prompt in prompts:
        room = min(GREEDY_TOKENS, n_positions - len(prompt.tokens))
        continued = reference.greedy(prompt.tokens, room) if room else []
        answers.append((reference.logits(np.array([prompt.tokens])), continued))
    return answers


def _results(
    compiled: CompiledModel, prompts: list[Prompt], expected: list[tuple[np.ndarray, list[int]]]
) -> list[PromptResult]:
    results = []
    for prompt, (logits, continued) in zip(prompts, expected, strict=True):
        comparison = compare(compiled.logits(np.array([prompt.tokens])), logits)
        ours = _greedy(compiled, prompt.tokens, len(continued))
        results.append(PromptResult(prompt, comparison, len(continued), ours == continued))
    return results


def _greedy(compiled: CompiledModel, tokens: list[int], max_new_tokens: int) -> list[int]:
    written: list[int] = []
    for _ in range(max_new_tokens):
        row = np.array([tokens + written])
        written.append(int(compiled.logits(row, first=row.shape[1] - 1)[0, -1].argmax()))
    return written
