"""Load one checkpoint into MAX and into PyTorch, or two into MAX, and compare what they compute."""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from max_gpt2._progress import Runner, silently
from max_gpt2.checkpoint import (
    DEFAULT_OPTIONS,
    Checkpoint,
    LoadOptions,
    LoadPlan,
    inspect_checkpoint,
    load_weights,
    loading_label,
    read_tokenizer,
)
from max_gpt2.config import GPT2Config
from max_gpt2.verify.compare import compare, compare_logits
from max_gpt2.verify.models import Implementation, MaxImplementation, PromptSetOutputs, TorchImplementation
from max_gpt2.verify.prompts import PromptSet, make_prompt_set
from max_gpt2.verify.report import PromptResult, Report
from max_gpt2.verify.tokenizers import check_tokenizer
from max_gpt2.weights import Weights

#: Makes an implementation from a config, the canonical weights and a runner.
MakeImplementation = Callable[[GPT2Config, Weights, Runner], Implementation]
#: The loaders that PyTorch's weights can come from.
LOADED_BY_TRANSFORMERS = "transformers, which loaded the checkpoint itself"
LOADED_BY_MAX_GPT2 = "transformers, with the weights loaded by max-gpt2"
ADDED_BY_PEFT = "; PEFT added the adapters"


def verify(
    model: str | Path,
    run: Runner = silently,
    options: LoadOptions = DEFAULT_OPTIONS,
    *,
    against: str | Path | None = None,
    ours: MakeImplementation | None = None,
) -> Report:
    """Compare MAX with transformers on "demo", a hub id, a folder or a file, or with MAX on another one, `against`.

    The reference runs first and is freed before the model loads, so that memory holds one copy of the weights at a
    time. transformers loads Hugging Face folders itself; for other formats it gets the weights that max-gpt2 loaded.
    Comparing two checkpoints needs no PyTorch. They must have the same `n_embd` and `n_layer`; if their vocabularies or
    context lengths differ, only the common ids and positions are compared. `ours` replaces this package's model by
    another implementation.

    Raises MaxGPT2Error when a checkpoint is refused, when PyTorch is missing, or when two have nothing to compare.
    """
    plan = inspect_checkpoint(model, options)[2]
    other = None if against is None else inspect_checkpoint(against, options)[2]
    prompts = make_prompt_set(plan, other, read_tokenizer(plan, options.tokenizer))
    make_max = partial(MaxImplementation.compile, kernels=options.kernels)
    started = time.perf_counter()
    if other:
        expected, _ = _run_max(other, prompts, run, options, make_max)
        names, reference = (str(model), str(against)), "MAX, like the first checkpoint"
    else:
        expected = run("Computing with PyTorch", lambda: _run_torch(plan, prompts, options))
        names, reference = (
            ("your model" if ours else "MAX", "PyTorch"),
            _reference_name(plan),
        )
    timing = {"reference_s": time.perf_counter() - started}
    outputs, timing_of_max = _run_max(plan, prompts, run, options, ours or make_max)
    wte = compare(outputs.wte[: prompts.vocab], expected.wte[: prompts.vocab])
    results = _results(prompts, outputs, expected)
    tokenizer = None if other else check_tokenizer(prompts.tokenizer)
    return Report(str(model), names, reference, wte, results, timing | timing_of_max, _peak_memory(), tokenizer)


def _run_max(
    plan: LoadPlan, prompts: PromptSet, run: Runner, options: LoadOptions, make_implementation: MakeImplementation
) -> tuple[PromptSetOutputs, dict[str, float]]:
    stamps = [time.perf_counter()]
    label = loading_label(plan, "Loading the weights for MAX")
    weights = run(label, lambda: load_weights(plan, allow_nonfinite=options.allow_nonfinite))
    stamps.append(time.perf_counter())
    implementation = make_implementation(plan.config, weights, run)
    stamps.append(time.perf_counter())
    outputs = run("Computing with MAX", lambda: prompts.compute(implementation))
    return outputs, {"load_s": stamps[1] - stamps[0], "compile_s": stamps[2] - stamps[1]}


def _run_torch(plan: LoadPlan, prompts: PromptSet, options: LoadOptions) -> PromptSetOutputs:
    """Compute with PyTorch; adapters are added to the base model by PEFT, unless the merged weights are rounded."""
    if plan.adapters and not plan.rounded:
        return prompts.compute(_reference_with_adapters(plan, prompts, options))
    return prompts.compute(_reference(plan, prompts, options))


def _reference_with_adapters(plan: LoadPlan, prompts: PromptSet, options: LoadOptions) -> TorchImplementation:
    base = inspect_checkpoint(plan.origin.path, replace(options, adapters=()))[2]
    implementation = _reference(base, prompts, options)
    implementation.add_adapters(plan.adapters)
    return implementation


def _reference_name(plan: LoadPlan) -> str:
    if plan.rounded:
        return f"{LOADED_BY_MAX_GPT2} ({', '.join(plan.type_changes)})"
    loader = LOADED_BY_TRANSFORMERS if plan.origin.transformers_reads_it else LOADED_BY_MAX_GPT2
    return loader + (ADDED_BY_PEFT if plan.adapters else "")


def _reference(plan: LoadPlan, prompts: PromptSet, options: LoadOptions) -> TorchImplementation:
    if plan.origin.transformers_reads_it and not plan.rounded:
        return TorchImplementation(plan.origin.path)
    weights = load_weights(plan, allow_nonfinite=options.allow_nonfinite)
    checkpoint = Checkpoint(plan.origin.folder, plan.config, weights, prompts.tokenizer, plan)
    return TorchImplementation(checkpoint)


def _results(prompts: PromptSet, outputs: PromptSetOutputs, expected: PromptSetOutputs) -> list[PromptResult]:
    decode, vocab = prompts.tokenizer.decode, prompts.vocab
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
        for prompt, ours, theirs in zip(prompts.prompts, outputs.prompts, expected.prompts, strict=True)
    ]


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # Linux counts in KiB, macOS in bytes
