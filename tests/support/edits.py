"""Edits of every kind, and the same changes in PyTorch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace as with_fields
from typing import Any

import numpy as np
import torch

from max_gpt2.config import GPT2Config
from max_gpt2.inspect import (
    Edit,
    Tracer,
    ablate_head,
    mean_ablate,
    patch,
    probe_names,
    replace,
    scale,
    scale_head,
    steer,
    zero,
)
from max_gpt2.inspect.probes import READ_ONLY, name_in, split_name
from max_gpt2.verify.compare import compare
from tests.support.activations import Replace, assert_equal, texts, torch_activations

#: Returns the new value of one activation in PyTorch.
Change = Callable[[torch.Tensor], torch.Tensor]


def editable(config: GPT2Config, layer: int) -> list[str]:
    """Return the activations of a layer that can be edited, and those outside of the layers."""
    found = [(name, *split_name(name)) for name in probe_names(config)]
    return [name for name, number, part in found if number in (None, layer) and part not in READ_ONLY]


def changed(value: torch.Tensor, index: Any, change: Callable[[torch.Tensor], Any]) -> torch.Tensor:
    """Return a copy of a tensor with some of its elements changed."""
    value = value.clone()
    value[index] = change(value[index])
    return value


def every_edit(config: GPT2Config, source: Mapping[str, np.ndarray]) -> Iterator[tuple[Edit, str, Change]]:
    """Yield an edit of each kind, each with the activation that it changes and the same change in PyTorch.

    `source` is the trace of another text of the same length, at the output and z of the middle layer.
    """
    layer = config.n_layer // 2
    block, z, head = name_in(layer, ""), name_in(layer, "attn.z"), config.n_head - 1
    mlp, pattern, attention = (name_in(layer, part) for part in ("mlp", "attn.pattern", "attn"))
    vector = np.linspace(-1, 2, config.n_embd, dtype=np.float32)
    added, stream, heads = (torch.from_numpy(one) for one in (vector, source[block], source[z]))
    for name in editable(config, layer):
        # The patterns of the first tokens hardly differ, so that a product of them may have no effect.
        yield scale(name, 3, positions=[2, 8]), name, lambda x: changed(x, (..., [2, 8], slice(None)), lambda y: 3 * y)
    yield ablate_head(layer, head), z, lambda x: changed(x, head, torch.zeros_like)
    yield scale_head(layer, 0, -0.5), z, lambda x: changed(x, 0, lambda y: -0.5 * y)
    yield zero(mlp), mlp, torch.zeros_like
    yield zero(pattern, heads=[0], positions=[5]), pattern, lambda x: changed(x, (0, 5), torch.zeros_like)
    yield mean_ablate(attention), attention, lambda x: x.mean(dim=0, keepdim=True).expand_as(x)
    yield mean_ablate(pattern, heads=[head]), pattern, lambda x: changed(x, head, lambda y: y.mean(dim=0))
    yield mean_ablate(mlp, vector), mlp, lambda x: added.expand_as(x)
    yield steer(block, vector, 2.5), block, lambda x: x + 2.5 * added
    yield replace(block, vector, positions=[4]), block, lambda x: changed(x, 4, lambda _: added)
    yield patch(block, source, positions=[3, 8]), block, lambda x: changed(x, [3, 8], lambda _: stream[[3, 8]])
    yield patch(z, source, heads=[0]), z, lambda x: changed(x, 0, lambda _: heads[0])


def at(name: str, change: Change) -> Replace:
    """Return a change of one activation in PyTorch."""
    return lambda seen, value: change(value) if seen == name else value


def check_edits(tracer: Tracer, torch_model: Any, edits: list[Edit], change: Replace, length: int = 13) -> None:
    """Compare all activations of a text under edits with those of PyTorch under hooks; the logits must change."""
    (ids,) = texts(tracer.config, length)
    (trace,) = with_fields(tracer, edits=tuple(edits)).trace([ids], ["**"])
    (plain,) = tracer.trace([ids], ["logits"])
    assert_equal(trace, torch_activations(torch_model, ids, change))
    assert not compare(trace["logits"], plain["logits"]).equal


def check_model(tracer: Tracer, torch_model: Any, length: int = 13) -> None:
    """Compare every activation, under every edit and under two edits of one activation, with PyTorch."""
    ids, other = texts(tracer.config, length, length)
    (trace,) = tracer.trace([ids], ["**"])
    expected = torch_activations(torch_model, ids)
    assert list(trace) == probe_names(tracer.config)
    assert trace.activations.keys() == expected.keys()
    assert_equal(trace, expected)
    layer = tracer.config.n_layer // 2
    (source,) = tracer.trace([other], [name_in(layer, ""), name_in(layer, "attn.z")])
    for edit, name, change in every_edit(tracer.config, source):
        check_edits(tracer, torch_model, [edit], at(name, change), length)
