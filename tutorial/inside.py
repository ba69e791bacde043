"""The models of the exercises in the chapter "Look inside": made weights and the demo, in the learner's own code."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np

from max_gpt2.checkpoint import Checkpoint, load_checkpoint
from max_gpt2.checkpoint.layout import is_conv1d
from max_gpt2.inspect.module import ModuleTracer
from tutorial.made_model import SIZES, VOCAB, made_weights
from tutorial.numpy_gpt2 import Observed, run

MADE, DEMO = "the made model", "the demo"
#: A text for the demo, from Pride and Prejudice.
TEXT = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a "
    "wife. However little known the feelings or views of such a man may be on his first entering a neighbourhood, this "
    "truth is so well fixed in the minds of the surrounding families, that he is considered the rightful property of "
    "some one or other of their daughters."
)
Head = tuple[int, int]


@dataclass(frozen=True)
class Subject:
    """A model to look into: its sizes and weights, in the layout of `Linear`, and a repeated random sequence."""

    sizes: Mapping[str, Any]
    weights: Mapping[str, np.ndarray]
    repeated: np.ndarray

    def output_weight(self, head: Head) -> tuple[str, slice]:
        """Return the name of the weight after the heads of a layer, and the columns of a head."""
        return f"transformer.h.{head[0]}.attn.c_proj.weight", slice(
            head[1] * self.head_dim, (1 + head[1]) * self.head_dim
        )

    @property
    def head_dim(self) -> int:
        """The width of a head."""
        return int(self.sizes["n_embd"]) // int(self.sizes["n_head"])


@cache
def observe(name: str, text: bool = False, without: Head | None = None) -> Observed:
    """Return what numpy computes for the repeated sequence of a model, or for `TEXT`; if asked, without a head."""
    one = subject(name)
    weights = dict(one.weights)
    if without is not None:
        key, own = one.output_weight(without)
        weights[key] = weights[key].copy()
        weights[key][:, own] = 0
    return run(weights, one.sizes["n_head"], one.sizes["layer_norm_epsilon"], text_ids() if text else one.repeated)


@cache
def subject(name: str) -> Subject:
    """Return the model of this name, `MADE` or `DEMO`."""
    if name == MADE:
        once = np.random.default_rng(1).permutation(VOCAB)[:24]
        return Subject({**SIZES, "layer_norm_epsilon": 1e-5}, made_weights(), np.concatenate([once, once]))
    checkpoint = _demo()
    once = np.random.default_rng(0).permutation(checkpoint.config.vocab_size)[:50]
    weights = {
        key: np.ascontiguousarray(value.T) if is_conv1d(key) else value for key, value in checkpoint.state_dict.items()
    }
    weights = {"lm_head.weight": weights["transformer.wte.weight"], **weights}
    return Subject(vars(checkpoint.config), weights, np.concatenate([once, once]))


def text_ids() -> np.ndarray:
    """Return the ids of `TEXT` for the demo: [seq]."""
    return np.array(_demo().tokenizer.encode(TEXT))


@cache
def _demo() -> Checkpoint:
    return load_checkpoint("demo")


def own_tracer(name: str = DEMO) -> ModuleTracer:
    """Return a tracer of the model in steps/, or in solutions/ for steps that have not passed, with the weights."""
    from tutorial.learner_model import learner_parts

    learner_parts()  # makes steps.step_01 the learner's own
    return tracer_of_steps(name)


def tracer_of_steps(name: str) -> ModuleTracer:
    """Return a tracer of the model that the modules steps.step_01 and steps.step_13 define."""
    first, thirteenth = (importlib.import_module(f"steps.step_{number:02}") for number in (1, 13))
    chosen = subject(name)
    names = [one.name for one in fields(first.GPT2Config) if one.name in chosen.sizes]
    model = thirteenth.MaxGPT2LMHeadModel(first.GPT2Config(**{one: chosen.sizes[one] for one in names}))
    model.load_state_dict(dict(chosen.weights))
    return ModuleTracer.of(model, _demo().tokenizer)


def patterns_of(tracer: ModuleTracer, ids: np.ndarray) -> np.ndarray:
    """Return the attention patterns of all heads: [seq] -> [n_layer, n_head, seq, seq]."""
    (trace,) = tracer.trace([ids.tolist()], ["h.*.attn.pattern"])
    return np.stack(list(trace.values()))
