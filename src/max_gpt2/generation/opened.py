"""From a checkpoint to an engine, in two steps: look at it, which is cheap, and load and compile it."""

import time
from dataclasses import dataclass
from pathlib import Path

from max_gpt2.checkpoint import LoadPlan, inspect_checkpoint, load_weights, read_tokenizer
from max_gpt2.config import GPT2Config
from max_gpt2.generation.engine import Engine
from max_gpt2.model import Kernels
from max_gpt2.progress import COMPILING, Runner, silently
from max_gpt2.ready import ready_model
from max_gpt2.tokenizer import GPT2Tokenizer


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

    @property
    def config(self) -> GPT2Config:
        """The model's config."""
        return self.plan.config

    def load(self, run: Runner = silently, *, allow_nonfinite: bool = False, kernels: Kernels = "mojo") -> Loaded:
        """Load the weights and compile; raises CheckpointError when they are damaged."""
        started = time.perf_counter()
        weights = run("Loading the weights", lambda: load_weights(self.plan, allow_nonfinite=allow_nonfinite))
        loaded = time.perf_counter()
        compiled = run(COMPILING, lambda: ready_model(self.config, weights, kernels))
        return Loaded(Engine(compiled, self.tokenizer), loaded - started, time.perf_counter() - loaded)


def open_model(model: str | Path, *, tokenizer: str | Path | None = None, allow_pickle: bool = False) -> OpenedModel:
    """Look at "demo", a hub id, a folder or a file; the options and what is raised are those of `load_checkpoint`."""
    plan = inspect_checkpoint(model, allow_pickle=allow_pickle)[2]
    return OpenedModel(plan, read_tokenizer(plan, tokenizer))
