"""Shared fixtures. MAX needs half a minute or more to compile a graph, so each is compiled once per session."""

import os
import shutil
from pathlib import Path

# No test may wait for a network.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from hypothesis import settings

from fixtures.checkpoints import UNEVEN, as_linear, write_checkpoint
from max_gpt2.checkpoint import Checkpoint, load_checkpoint
from max_gpt2.cli.app import app
from max_gpt2.cli.process import run_guarded
from max_gpt2.model import CompiledModel
from max_gpt2.model.compile_cache import load_or_compile
from solutions.solution_01 import GPT2Config
from solutions.solution_13 import CompiledGPT2, MaxGPT2LMHeadModel
from tests.support.cli import Cli, Outcome

# A deadline would measure the load of the machine.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def tiny_original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint; tests must not change it."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture
def tiny(tiny_original: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint, to change."""
    return Path(shutil.copytree(tiny_original, tmp_path / "tiny"))


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_original: Path) -> Checkpoint:
    return load_checkpoint(tiny_original)


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Checkpoint) -> CompiledModel:
    """The tiny checkpoint, compiled with the Mojo kernels."""
    return load_or_compile(tiny_checkpoint.config, tiny_checkpoint.state_dict)


@pytest.fixture(scope="session")
def builtin_model(tiny_checkpoint: Checkpoint) -> CompiledModel:
    """The tiny checkpoint, compiled with MAX's operations."""
    return load_or_compile(tiny_checkpoint.config, tiny_checkpoint.state_dict, "builtin")


@pytest.fixture(scope="session")
def tutorial_model(tiny_checkpoint: Checkpoint) -> CompiledGPT2:
    """The tiny checkpoint in the model of the tutorial."""
    names = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "layer_norm_epsilon")
    model = MaxGPT2LMHeadModel(GPT2Config(**{name: UNEVEN[name] for name in names}))
    model.load_state_dict(as_linear(tiny_checkpoint.state_dict))
    return model.compiled()


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Call the command line in this process."""

    def call(*arguments: object) -> Outcome:
        code = run_guarded(lambda: app([str(argument) for argument in arguments], standalone_mode=False))
        return Outcome(code, *capsys.readouterr())

    return call
