"""A GPT-2 made of the learner's own steps; the solutions stand in for steps that have not passed."""

import importlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from max_gpt2._progress import COMPILING, Runner
from max_gpt2.checkpoint.layout import is_conv1d
from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.verify import ModelOutputs
from max_gpt2.weights import WTE, Weights
from max_gpt2.weights.quantise import float32_weights
from tutorial.progress import read_progress
from tutorial.step_files import STEPS
from tutorial.step_loader import use_steps

#: The supported values of these fields: those of OpenAI's GPT-2, which the tutorial builds.
SUPPORTED: dict[str, tuple[object, ...]] = {
    "activation_function": ("gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
}


class ModelParts(NamedTuple):
    """The classes and functions of a GPT-2, from steps 1, 13 and 14; `origin` lists the learner's own steps."""

    config: Callable[..., Any]
    model: Callable[..., Any]
    generate_tokens: Callable[..., Any]
    origin: str = ""


def check_supported(model: str, config: GPT2Config) -> None:
    """Raise RequestError for a config with features that the tutorial's model does not implement."""
    for name, supported in SUPPORTED.items():
        if getattr(config, name) not in supported:
            raise RequestError(
                f"{model} has {name} = {getattr(config, name)!r}, which the tutorial's model does not support. "
                f"Use: max-gpt2 verify --model {model}"
            )


def learner_parts() -> ModelParts:
    """Import steps 1, 13 and 14; these and the steps they import are the learner's if they passed their checks."""
    done = [number for number in read_progress().done() if number <= STEPS]
    use_steps(done)
    first, thirteenth, last = (importlib.import_module(f"steps.step_{number:02}") for number in (1, 13, 14))
    return ModelParts(first.GPT2Config, thirteenth.MaxGPT2LMHeadModel, last.generate_tokens, describe_origin(done))


def describe_origin(done: list[int]) -> str:
    """Return a sentence that lists the learner's own steps, given the steps that passed."""
    others = [number for number in range(1, STEPS + 1) if number not in done]
    if not others:
        return f"All {STEPS} steps are yours."
    if not done:
        return "No step has passed yet, so all of them come from solutions/. Start with: make check STEP=1"
    return f"Yours: {_ranges(done)}. From solutions/, because they have not passed yet: {_ranges(others)}."


def _ranges(numbers: list[int]) -> str:
    """Return "steps 1 to 9 and 11" for 1, 2, ..., 9, 11."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    words = [str(part[0]) if len(part) == 1 else f"{part[0]} to {part[-1]}" for part in parts]
    joined = f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
    return f"{'step' if len(numbers) == 1 else 'steps'} {joined}"


class LearnerImplementation:
    """A checkpoint in the learner's model, for `python -m tutorial verify`; it exposes logits but no hidden states."""

    def __init__(self, parts: ModelParts, config: GPT2Config, weights: Weights, run: Runner) -> None:
        """Load canonical weights, with Conv1D weights transposed for Linear, and compile.

        Raises RequestError for a checkpoint with features that the tutorial's model does not have.
        """
        check_supported("The checkpoint", config)
        fields = {name: getattr(config, name) for name in asdict(parts.config())}
        model = parts.model(parts.config(**fields))
        state_dict = {
            name: np.ascontiguousarray(array.T) if is_conv1d(name) else array
            for name, array in float32_weights(weights).items()
        }
        model.load_state_dict(state_dict)
        self._wte, self._generate_tokens = state_dict[WTE], parts.generate_tokens
        self._compiled = run(COMPILING, model.compiled)

    def wte(self) -> np.ndarray:
        """Return the token embeddings: [vocab, n_embd]."""
        return self._wte

    def compute(self, tokens: list[int], max_new_tokens: int) -> ModelOutputs:
        """Compute the logits of a prompt and continue it greedily with the learner's own loop."""
        ids = np.array([tokens])
        generated = self._generate_tokens(self._compiled, ids, max_new_tokens, do_sample=False)
        return ModelOutputs({}, self._compiled(ids), generated[0, len(tokens) :].tolist())
