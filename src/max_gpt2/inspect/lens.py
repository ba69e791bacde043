"""Read a trace in terms of the vocabulary: the logit lens, and the direct attribution of a logit."""

from dataclasses import dataclass

import numpy as np

from max_gpt2.errors import RequestError
from max_gpt2.inspect.probes import name_in, split_name
from max_gpt2.inspect.trace import Trace


@dataclass(frozen=True)
class LogitLens:
    """The predictions that the model would make after each layer: row 0 is after the embeddings, row N after N blocks.

    nostalgebraist 2020: the final layer norm and the head are applied to each residual stream.

    Attributes:
        tokens: The most likely next token: [n_layer + 1, seq] of int64.
        probabilities: Its probability: [n_layer + 1, seq].
        targets: The next token of the text and, at the end, the model's most likely one: [seq] of int64.
        target_probabilities: The probability of the target: [n_layer + 1, seq].
        ranks: The rank of the target, 1 for the most likely token: [n_layer + 1, seq] of int64.

    """

    tokens: np.ndarray
    probabilities: np.ndarray
    targets: np.ndarray
    target_probabilities: np.ndarray
    ranks: np.ndarray


def logit_lens(trace: Trace) -> LogitLens:
    """Apply the final layer norm and the head to the residual stream after each layer; runs the model if necessary."""
    stages = trace.tracer.stages
    names = ["embeddings", *(name_in(layer, "") for layer in range(stages.config.n_layer))]
    trace = trace.with_activations([*names, "logits"])
    targets = np.array([*trace.tokens[1:], int(trace["logits"][-1].argmax())])
    rows = []
    for name in names:
        # The last block's output goes through the same operations as in the model, so that its row has the logits.
        logits = trace["logits"] if name == names[-1] else stages.logits(stages.layer_norm(trace[name], "ln_f"))
        probabilities = _probabilities(logits)
        best, own = logits.argmax(axis=1), probabilities[np.arange(len(targets)), targets]
        ranks = 1 + (logits > logits[np.arange(len(targets)), targets][:, None]).sum(axis=1)
        rows.append((best, probabilities.max(axis=1), own, ranks))
    tokens, probabilities, own, ranks = (np.stack(column) for column in zip(*rows, strict=True))
    return LogitLens(tokens, probabilities, targets, own, ranks)


def _probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


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


def attribution(trace: Trace, token: int, minus: int | None = None, position: int = -1) -> Attribution:
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
    layers = range(config.n_layer)
    parts = [name_in(layer, part) for layer in layers for part in ("attn.heads", "mlp")]
    trace = trace.with_activations(["embeddings", *parts, name_in(config.n_layer - 1, ""), "logits"])
    table = stages.weights["lm_head.weight"]
    direction = _row(table, token) - (0 if minus is None else _row(table, minus))
    weight, bias = (one.astype(np.float64) for one in stages.layer("ln_f"))
    final = trace[name_in(config.n_layer - 1, "")][position].astype(np.float64)
    deviation = np.sqrt(final.var() + config.layer_norm_epsilon)

    def share(vectors: np.ndarray) -> np.ndarray:
        """Return the parts of vectors in the residual stream: [..., n_embd] -> [...]."""
        wide = vectors.astype(np.float64)
        return (wide - wide.mean(axis=-1, keepdims=True)) / deviation * weight @ direction

    logits = trace["logits"][position].astype(np.float64)
    return Attribution(
        embeddings=float(share(trace["embeddings"][position])),
        heads=np.stack([share(trace[name_in(layer, "attn.heads")][:, position]) for layer in layers]),
        mlps=np.stack([share(trace[name_in(layer, "mlp")][position]) for layer in layers]),
        biases=np.stack([share(stages.layer(f"h.{layer}.attn.c_proj")[1]) for layer in layers]),
        ln_f=float(bias @ direction),
        total=float(logits[token] - (0 if minus is None else logits[minus])),
    )


def _row(table: np.ndarray, token: int) -> np.ndarray:
    if not 0 <= token < len(table):
        raise RequestError(f"The id {token} is not in 0 .. {len(table) - 1}.")
    return table[token].astype(np.float64)


#: The parts of a layer that are not written by a head or an MLP alone: an edit there has no share.
_STREAM = ("resid_pre", "attn", "resid_mid", "")


def _check_edits(trace: Trace) -> None:
    for edit in trace.tracer.edits:
        for name in edit.check(trace.tracer.config):
            if split_name(name)[1] in (*_STREAM, "ln_f", "logits"):
                raise RequestError(f"{name} is edited, so no part wrote it. Attribute without this edit.")
