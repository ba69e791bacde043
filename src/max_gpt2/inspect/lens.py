"""Read a trace in terms of the vocabulary: the logit lens, and the direct attribution of a logit."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from max_gpt2.errors import RequestError
from max_gpt2.inspect.edits import Edit
from max_gpt2.inspect.probes import name_in, split_name
from max_gpt2.model.stages import Stages
from max_gpt2.weights import LM_HEAD

#: Positions whose logits are computed together.
_CHUNK = 64


class _Tracer(Protocol):
    """The model of a trace."""

    @property
    def stages(self) -> Stages:
        """The operations and weights."""
        ...

    @property
    def edits(self) -> Sequence[Edit]:
        """The edits of the activations."""
        ...


class Traced(Protocol):
    """A text that was traced, such as a `max_gpt2.inspect.Trace`."""

    @property
    def tracer(self) -> _Tracer:
        """The model."""
        ...

    @property
    def tokens(self) -> Sequence[int]:
        """The token ids."""
        ...

    def with_activations(self, at: Iterable[str]) -> Mapping[str, np.ndarray]:
        """Return activations by name; runs the model if necessary."""
        ...


@dataclass(frozen=True)
class LogitLens:
    """The predictions that the model would make after each layer: row 0 is after the embeddings, row N after N blocks.

    nostalgebraist 2020: the final layer norm and the head are applied to each residual stream.

    Attributes:
        tokens: The most likely next token: [n_layer + 1, positions] of int64.
        probabilities: Its probability: [n_layer + 1, positions].
        targets: The next token of the text and, at the end, the model's most likely one: [positions] of int64.
        target_probabilities: The probability of the target: [n_layer + 1, positions].
        ranks: The rank of the target, 1 for the most likely token: [n_layer + 1, positions] of int64.

    """

    tokens: np.ndarray
    probabilities: np.ndarray
    targets: np.ndarray
    target_probabilities: np.ndarray
    ranks: np.ndarray


def logit_lens(trace: Traced, positions: Sequence[int] | None = None) -> LogitLens:
    """Apply the final layer norm and the head to the residual stream after each layer, at all positions or at some.

    Runs the model if necessary. Raises RequestError for a position out of range.
    """
    stages, seq = trace.tracer.stages, len(trace.tokens)
    chosen = np.arange(seq) if positions is None else np.array(positions, dtype=np.int64)
    if wrong := [one for one in chosen.tolist() if not 0 <= one < seq]:
        raise RequestError(f"Position {wrong[0]} is not in the text, which has {seq} tokens.")
    names = ["embeddings", *(name_in(layer, "") for layer in range(stages.config.n_layer))]
    known = trace.with_activations([*names, "ln_f"])

    def logits(name: str, at: np.ndarray) -> np.ndarray:
        # The last block's output goes through the same operations as in the model, so that its row has the logits.
        stream = known["ln_f"][at] if name == names[-1] else stages.layer_norm(known[name][at], "ln_f")
        return stages.logits(stream)

    targets = np.array([*trace.tokens[1:], 0], dtype=np.int64)[chosen]
    if len(last := np.flatnonzero(chosen == seq - 1)):
        targets[last] = logits(names[-1], chosen[last[:1]]).argmax()
    rows = []
    for name in names:
        chunks = np.split(np.arange(len(chosen)), range(_CHUNK, len(chosen), _CHUNK))
        parts = [_predictions(logits(name, chosen[chunk]), targets[chunk]) for chunk in chunks]
        rows.append([np.concatenate(column) for column in zip(*parts, strict=True)])
    best, probabilities, own, ranks = (np.stack(column) for column in zip(*rows, strict=True))
    return LogitLens(best, probabilities, targets, own, ranks)


def _predictions(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the most likely ids, their probabilities, and probabilities and ranks of the targets: four of [rows]."""
    own = logits[np.arange(len(targets)), targets][:, None]
    most = logits.max(axis=1, keepdims=True)
    # Pairwise sums in float64 of float32 exponentials: exact to seven digits, and twice as fast as float64 throughout.
    total = np.exp(logits - most).sum(axis=1, dtype=np.float64)
    probability = np.exp((own - most)[:, 0].astype(np.float64)) / total
    return logits.argmax(axis=1), 1 / total, probability, 1 + (logits > own).sum(axis=1)


@dataclass(frozen=True)
class Attribution:
    """The parts of a logit, or of a difference of two logits, at one position. Their sum is `total`.

    Attributes:
        embeddings: The part of the token and position embeddings.
        heads: The part of each attention head: [n_layer, n_head].
        mlps: The part of each MLP: [n_layer].
        biases: The part of the biases of the attention layers: [n_layer].
        ln_f: The part of the bias of the final layer norm.
        total: The logit, or the difference.

    """

    embeddings: float
    heads: np.ndarray
    mlps: np.ndarray
    biases: np.ndarray
    ln_f: float
    total: float


def attribution(trace: Traced, token: int, minus: int | None = None, position: int = -1) -> Attribution:
    """Divide the logit of a token, or its difference to another one, among the parts that wrote to the residual stream.

    With the final layer norm's standard deviation fixed, the logit is linear in the residual stream, so each part's
    share is exact (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"). Runs the model if
    necessary. Raises RequestError for a token or a position out of range, and for a trace with edits of the residual
    stream, which no part wrote.
    """
    stages, seq = trace.tracer.stages, len(trace.tokens)
    config = stages.config
    if not -seq <= position < seq:
        raise RequestError(f"Position {position} is not in the text, which has {seq} tokens.")
    _check_edits(trace)
    last = name_in(config.n_layer - 1, "")
    known = trace.with_activations(["embeddings", "h.*.attn.z", "h.*.mlp", last, "ln_f"])
    table = stages.float32(LM_HEAD)
    logits = _row(table, token) - (0 if minus is None else _row(table, minus))
    weight, bias = (one.astype(np.float64) for one in stages.layer("ln_f"))
    scaled = weight * logits
    # (x - mean(x)) @ scaled = x @ (scaled - mean(scaled)): the logit's direction in the residual stream.
    stream = known[last][position].astype(np.float64)
    direction = (scaled - scaled.mean()) / np.sqrt(stream.var() + config.layer_norm_epsilon)
    heads, mlps, biases = [], [], []
    for layer in range(config.n_layer):
        output, output_bias = stages.layer(f"h.{layer}.attn.c_proj")
        z = known[name_in(layer, "attn.z")][:, position].astype(np.float64)  # [n_head, head_dim]
        heads.append((z * (output @ direction).reshape(z.shape)).sum(axis=1))
        mlps.append(known[name_in(layer, "mlp")][position] @ direction)
        biases.append(output_bias @ direction)
    final = stages.logits(known["ln_f"][position][None])[0].astype(np.float64)
    return Attribution(
        embeddings=float(known["embeddings"][position] @ direction),
        heads=np.stack(heads),
        mlps=np.stack(mlps),
        biases=np.stack(biases),
        ln_f=float(bias @ logits),
        total=float(final[token] - (0 if minus is None else final[minus])),
    )


def _row(table: np.ndarray, token: int) -> np.ndarray:
    if not 0 <= token < len(table):
        raise RequestError(f"The id {token} is not in 0 .. {len(table) - 1}.")
    return table[token].astype(np.float64)


#: The parts of a layer that are not written by a head or an MLP alone: an edit there has no share.
_STREAM = ("resid_pre", "attn", "resid_mid", "")


def _check_edits(trace: Traced) -> None:
    for edit in trace.tracer.edits:
        for name in edit.check(trace.tracer.stages.config):
            if split_name(name)[1] in (*_STREAM, "ln_f", "logits"):
                raise RequestError(f"{name} is edited, so no part wrote it. Attribute without this edit.")
