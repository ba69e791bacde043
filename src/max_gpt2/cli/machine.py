"""The commands about this machine: `max-gpt2 doctor` and `max-gpt2 warmup`."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from max_gpt2.cli.options import (
    DEFAULT_WEIGHTS,
    Adapters,
    AllowNonfinite,
    AllowPickle,
    AsJson,
    Model,
    Tokenizer,
    WhichKernels,
    WhichWeights,
    parse_adapters,
    print_json,
)
from max_gpt2.errors import DestinationError

if TYPE_CHECKING:
    from max_gpt2._progress import Runner
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.system.doctor import Finding


def doctor(as_json: AsJson = False) -> None:
    """Check the machine, the installed packages and the caches.

    The exit code is 0 when everything required is present, 1 otherwise.
    """
    from max_gpt2.system.doctor import examine

    findings = examine()
    ok = all(one.state != "problem" for one in findings)
    if as_json:
        print_json({"ok": ok, "findings": [asdict(one) for one in findings]})
    else:
        _show_findings(findings)
    raise typer.Exit(0 if ok else 1)


def warmup(
    model: Model = "demo",
    verify: Annotated[bool, typer.Option("--verify", help="Also compile the models that verify needs.")] = False,
    tokenizer: Tokenizer = None,
    adapter: Adapters = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    kernels: WhichKernels = "mojo",
    weights: WhichWeights = DEFAULT_WEIGHTS,
    as_json: AsJson = False,
) -> None:
    """Compile a model ahead of time, so that later commands start fast."""
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli.console import run_with_timer

    options = LoadOptions(tokenizer, allow_pickle, allow_nonfinite, kernels, parse_adapters(adapter), weights)
    values = {"model": model, **_warmup(model, options, verify, run_with_timer).to_dict()}
    print_json(values) if as_json else _show_warmup(values)


@dataclass(frozen=True)
class Warmup:
    """Seconds spent on loading and compiling, and the growth of the compile cache in bytes.

    The growth is 0 when the model was already compiled. `verify_compile_s` is None unless requested.
    """

    load_s: float
    compile_s: float
    verify_compile_s: float | None
    folder: Path | None
    cache_growth_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self) | {"folder": None if self.folder is None else str(self.folder)}


def _warmup(model: str | Path, options: "LoadOptions", verify: bool, run: "Runner") -> Warmup:
    """Compile what `max-gpt2 generate` and `score` use and, with `verify`, what `max-gpt2 verify` uses.

    Raises DestinationError when the compile cache is not usable, and MaxGPT2Error when the checkpoint is invalid.
    """
    from max_gpt2.checkpoint import load_weights
    from max_gpt2.generation import open_model
    from max_gpt2.model.compile_cache import load_or_compile_scoring
    from max_gpt2.system.doctor import compile_cache, folder_size
    from max_gpt2.system.machine import cache_folder

    cache = compile_cache()
    if cache.state == "problem":
        raise DestinationError(f"Cannot use the compile cache {cache.message}. {cache.remedy}")
    folder = cache_folder()
    before = folder_size(folder) if folder else 0
    opened = open_model(model, options)
    loaded = opened.load(run)
    load_s, verify_compile_s = loaded.load_s, None
    started = time.perf_counter()
    weights = loaded.engine.model.weights
    run("Compiling the graph of score", partial(load_or_compile_scoring, opened.config, weights, options.kernels))
    compile_s = loaded.compile_s + time.perf_counter() - started
    del loaded, weights  # keep one copy of the weights at a time
    if verify:
        from max_gpt2.verify.models import MaxImplementation

        weights_again = run(
            "Loading the weights for verify", lambda: load_weights(opened.plan, allow_nonfinite=options.allow_nonfinite)
        )
        started = time.perf_counter()
        MaxImplementation.compile(opened.config, weights_again, run, options.kernels)
        verify_compile_s = time.perf_counter() - started
    return Warmup(load_s, compile_s, verify_compile_s, folder, folder_size(folder) - before if folder else 0)


def _show_findings(findings: Sequence["Finding"]) -> None:
    """Print a row per finding, then the remedies and the verdict."""
    from max_gpt2.cli.console import stdout, table

    rows = [[one.name, "PROBLEM" if one.state == "problem" else one.state, one.message] for one in findings]
    stdout.print(table(("", "left"), ("", "left"), ("", "left"), rows=rows))
    for one in findings:
        if one.remedy:
            print(f"{one.name}: {one.remedy}")
    problems = sum(one.state == "problem" for one in findings)
    noun = "problem" if problems == 1 else "problems"
    print(f"{problems} {noun} found. Fix and run again." if problems else "Everything required is present.")


def _show_warmup(values: dict[str, Any]) -> None:
    seconds = values["compile_s"] + (values["verify_compile_s"] or 0)
    commands = "generate, score and verify" if values["verify_compile_s"] is not None else "generate and score"
    if values["cache_growth_bytes"] > 0:
        print(f"Compiled {values['model']} in {seconds:.1f} s and cached it in {values['folder']}.")
    else:
        print(f"{values['model']} was already compiled; loading it from the cache took {seconds:.1f} s.")
    print(f"The commands {commands} now start within seconds, until MAX or max-gpt2 is updated.")
