"""Compile a model before somebody waits for it."""

import time
from dataclasses import dataclass
from pathlib import Path

from max_gpt2._progress import Runner, silently
from max_gpt2.checkpoint import DEFAULT_OPTIONS, LoadOptions, load_weights
from max_gpt2.errors import DestinationError
from max_gpt2.generation import open_model
from max_gpt2.system.doctor import compile_cache, size_of
from max_gpt2.system.machine import cache_folder


@dataclass(frozen=True)
class Warmed:
    """How many seconds loading and compiling took, and by how many bytes the folder of compiled models grew.

    When it did not grow, the model was in there already.
    """

    load_s: float
    compile_s: float
    verify_s: float | None
    folder: Path | None
    grown: int


def warm(
    model: str | Path,
    run: Runner = silently,
    options: LoadOptions = DEFAULT_OPTIONS,
    *,
    verify: bool = False,
) -> Warmed:
    """Compile what `max-gpt2 generate` compiles, and with `verify` what that does besides; MAX keeps both on the disk.

    Raises DestinationError when the folder of compiled models cannot be
    written to, and MaxGPT2Error when the checkpoint is refused.
    """
    cache = compile_cache()
    if cache.state == "problem":
        raise DestinationError(f"The compile cache: {cache.says}. {cache.remedy}")
    folder = cache_folder()
    before = size_of(folder) if folder else 0
    opened = open_model(model, options)
    loaded = opened.load(run)
    load_s, compile_s, verify_s = loaded.load_s, loaded.compile_s, None
    del loaded  # one copy of the weights at a time
    if verify:
        from max_gpt2.verify.models import MaxImplementation

        weights = run(
            "Loading the weights for verify", lambda: load_weights(opened.plan, allow_nonfinite=options.allow_nonfinite)
        )
        started = time.perf_counter()
        MaxImplementation.compile(opened.config, weights, run, options.kernels)
        verify_s = time.perf_counter() - started
    return Warmed(load_s, compile_s, verify_s, folder, size_of(folder) - before if folder else 0)
