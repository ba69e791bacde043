"""A GPT-2 with an induction head whose weights are made by hand, for the exercises of the chapter "Look inside".

The residual stream has four areas: the token, the position, the token before, and the predicted token, each as a vector
with a single 1. Head 1 of layer 0 looks at the position before and copies its token ("previous-token head"). Head 0 of
layer 1 looks for a position whose token before is the present token, and copies its token to the prediction ("induction
head"). All other weights are 0, so that the other heads attend equally to everything and write nothing.
"""

import numpy as np

VOCAB, POSITIONS = 32, 64
SIZES = {"vocab_size": VOCAB, "n_positions": POSITIONS, "n_embd": 3 * VOCAB + POSITIONS, "n_layer": 2, "n_head": 2}
PREVIOUS_TOKEN_HEAD, INDUCTION_HEAD = (0, 1), (1, 0)
#: The areas of the residual stream.
TOKEN, POSITION = slice(0, VOCAB), slice(VOCAB, VOCAB + POSITIONS)
BEFORE, PREDICTION = slice(VOCAB + POSITIONS, 2 * VOCAB + POSITIONS), slice(2 * VOCAB + POSITIONS, None)


def made_weights() -> dict[str, np.ndarray]:
    """Return the weights by name, as arrays of float32; the weight of a linear layer is [out, in]."""
    width, n_head = SIZES["n_embd"], SIZES["n_head"]
    weights = {
        "transformer.wte.weight": np.zeros((VOCAB, width)),
        "transformer.wpe.weight": np.zeros((POSITIONS, width)),
        "lm_head.weight": np.zeros((VOCAB, width)),
        **_norm("transformer.ln_f", width),
    }
    weights["transformer.wte.weight"][:, TOKEN] = np.eye(VOCAB)
    weights["transformer.wpe.weight"][:, POSITION] = np.eye(POSITIONS)
    weights["lm_head.weight"][:, PREDICTION] = 0.7 * np.eye(VOCAB)
    for layer in range(SIZES["n_layer"]):
        name, inner = f"transformer.h.{layer}", 4 * width
        weights |= _norm(f"{name}.ln_1", width) | _norm(f"{name}.ln_2", width)
        for part, rows, columns in (
            ("attn.c_attn", 3 * width, width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", inner, width),
            ("mlp.c_proj", width, inner),
        ):
            weights |= {f"{name}.{part}.weight": np.zeros((rows, columns)), f"{name}.{part}.bias": np.zeros(rows)}
    head_dim = width // n_head
    query, key, value, output = _head(weights, PREVIOUS_TOKEN_HEAD, head_dim)
    query[:POSITIONS, POSITION] = 0.8 * np.eye(POSITIONS, k=1)  # position i asks for i - 1
    key[:POSITIONS, POSITION] = np.eye(POSITIONS)
    value[:VOCAB, TOKEN] = 0.1 * np.eye(VOCAB)  # the layer norm has made the ones about 9
    output[BEFORE, :VOCAB] = np.eye(VOCAB)
    query, key, value, output = _head(weights, INDUCTION_HEAD, head_dim)
    query[:VOCAB, TOKEN] = 1.2 * np.eye(VOCAB)
    key[:VOCAB, BEFORE], key[:VOCAB, TOKEN] = np.eye(VOCAB), -np.eye(VOCAB)  # not the same token at the start
    value[:VOCAB, TOKEN] = 0.3 * np.eye(VOCAB)
    output[PREDICTION, :VOCAB] = np.eye(VOCAB)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def _norm(name: str, width: int) -> dict[str, np.ndarray]:
    return {f"{name}.weight": np.ones(width), f"{name}.bias": np.zeros(width)}


def _head(weights: dict[str, np.ndarray], head: tuple[int, int], head_dim: int) -> list[np.ndarray]:
    """Return the weights of a head for query, key and value, [head_dim, n_embd], and its output, [n_embd, head_dim]."""
    name, own = f"transformer.h.{head[0]}.attn", slice(head[1] * head_dim, (head[1] + 1) * head_dim)
    parts = np.split(weights[f"{name}.c_attn.weight"], 3)  # views
    return [*(part[own] for part in parts), weights[f"{name}.c_proj.weight"][:, own]]
