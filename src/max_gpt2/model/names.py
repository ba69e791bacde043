"""The names of the hidden states, as people find them in Hugging Face's model."""

#: What a block puts out: its four parts, named as they are, and the block itself, which has no suffix.
BLOCK_STATES = (".ln_1", ".attn", ".ln_2", ".mlp", "")


def state_names(n_layer: int) -> list[str]:
    """Return the names of all hidden states: "embeddings", "h.0.ln_1", ..., "h.0" (the block's output), ..., "ln_f"."""
    blocks = [f"h.{layer}{part}" for layer in range(n_layer) for part in BLOCK_STATES]
    return ["embeddings", *blocks, "ln_f"]
