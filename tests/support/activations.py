"""Activations of transformers' GPT-2 with eager attention, read and changed with hooks."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch

from max_gpt2.config import GPT2Config
from max_gpt2.verify.compare import compare

#: Takes the name and the value of an activation, and returns the value to use.
Replace = Callable[[str, torch.Tensor], torch.Tensor]


def texts(config: GPT2Config, *lengths: int) -> list[list[int]]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, config.vocab_size, length).tolist() for length in lengths]


@contextmanager
def recorded(model: Any, kept: dict[str, torch.Tensor], change: Replace) -> Iterator[None]:
    """Record activations under this package's names, each changed by `change` first."""
    n_head, transformer = model.config.n_head, model.transformer

    def keep(name: str, value: torch.Tensor) -> torch.Tensor:
        kept[name] = change(name, value)
        return kept[name]

    def by_head(value: torch.Tensor) -> torch.Tensor:
        return value.reshape(len(value), n_head, -1).transpose(0, 1)

    def together(value: torch.Tensor) -> torch.Tensor:
        return value.transpose(0, 1).reshape(1, value.shape[1], -1)

    def output(name: str, _module: object, _inputs: object, result: Any) -> Any:
        if isinstance(result, tuple):
            return (keep(name, result[0][0])[None], *result[1:])
        return keep(name, result[0])[None]

    def attended(name: str, _module: object, _inputs: object, result: Any) -> Any:
        """Change the residual stream after the attention by changing what the attention adds to it."""
        added = keep(f"{name}.attn", result[0][0])
        stream = kept[f"{name}.resid_pre"] + added
        return (added + (keep(f"{name}.resid_mid", stream) - stream))[None], *result[1:]

    def first_input(name: str, _module: object, inputs: Any) -> Any:
        return (keep(name, inputs[0][0])[None], *inputs[1:])

    def qkv(name: str, _module: object, _inputs: object, result: torch.Tensor) -> torch.Tensor:
        parts = zip("qkv", result[0].chunk(3, dim=-1), strict=True)
        return torch.cat([together(keep(f"{name}.{part}", by_head(value))) for part, value in parts], dim=-1)

    def heads(name: str, module: Any, inputs: Any) -> Any:
        z = keep(f"{name}.z", by_head(inputs[0][0]))
        kept[f"{name}.heads"] = z @ module.weight.reshape(n_head, z.shape[2], -1)
        return (together(z), *inputs[1:])

    softmax, layers = torch.nn.functional.softmax, itertools.count()

    def attend(scores: torch.Tensor, dim: int) -> torch.Tensor:
        """Replace softmax, which transformers calls once in each layer: on scores that are masked by a low number."""
        name = f"h.{next(layers)}.attn"
        kept[f"{name}.scores"] = scores[0].masked_fill(scores[0] < -1e30, -torch.inf)
        return keep(f"{name}.pattern", softmax(scores, dim=dim)[0])[None]

    with ExitStack() as hooks:

        def on(module: torch.nn.Module, hook: Callable[..., Any], name: str, *, before: bool = False) -> None:
            register: Any = module.register_forward_pre_hook if before else module.register_forward_hook
            hooks.callback(register(partial(hook, name)).remove)

        on(transformer.drop, output, "embeddings")
        for number, block in enumerate(transformer.h):
            name = f"h.{number}"
            on(block, first_input, f"{name}.resid_pre", before=True)
            on(block.ln_1, output, f"{name}.ln_1")
            on(block.attn.c_attn, qkv, f"{name}.attn")
            on(block.attn.c_proj, heads, f"{name}.attn", before=True)
            on(block.attn, attended, name)
            on(block.ln_2, output, f"{name}.ln_2")
            on(block.mlp.c_fc, output, f"{name}.mlp.pre")
            on(block.mlp.act, output, f"{name}.mlp.post")
            on(block.mlp, output, f"{name}.mlp")
            on(block, output, name)
        on(transformer.ln_f, output, "ln_f")
        on(model.lm_head, output, "logits")
        hooks.enter_context(mock.patch("torch.nn.functional.softmax", attend))
        yield


def torch_activations(
    model: Any, ids: list[int], change: Replace = lambda _name, value: value
) -> dict[str, np.ndarray]:
    """Return every activation of a text, under the names of `max_gpt2.inspect.probe_names`."""
    kept: dict[str, torch.Tensor] = {}
    with torch.no_grad(), recorded(model, kept, change):
        model(torch.tensor([ids]))
    return {name: value.numpy() for name, value in kept.items()}


def assert_equal(activations: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Raise AssertionError unless each of the activations is within the bounds of `verify`, and masked alike."""
    for name, value in activations.items():
        masked = np.isneginf(expected[name])
        np.testing.assert_array_equal(np.isneginf(value), masked, err_msg=name)
        difference = compare(np.where(masked, 0, value), np.where(masked, 0, expected[name]))
        assert difference.equal, f"{name}: {difference}"
