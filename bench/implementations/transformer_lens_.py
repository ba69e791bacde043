"""TransformerLens, through `TransformerBridge.run_with_cache`: PyTorch, float32, two threads."""

from collections.abc import Callable
from typing import Any

import numpy as np


def load_tracer(folder: str) -> Callable[..., None]:
    """Load a folder in Hugging Face's layout, with its weights as they are."""
    return _tracer(_load(folder))


def load_processed_tracer(folder: str) -> Callable[..., None]:
    """Load a folder and process its weights as HookedTransformer does by default: fold layer norms, center weights."""
    model = _load(folder)
    model.enable_compatibility_mode(disable_warnings=True)
    return _tracer(model)


def _load(folder: str) -> Any:
    import torch
    from transformer_lens.model_bridge import TransformerBridge

    torch.set_num_threads(2)
    return TransformerBridge.boot_transformers(folder, device="cpu")


def _tracer(model: Any) -> Callable[..., None]:
    import torch

    layers = range(model.cfg.n_layers)
    blocks = [f"blocks.{layer}.hook_out" for layer in layers]

    @torch.no_grad()
    def trace(ids: list[int], what: str, save: str | None = None) -> None:
        names = None if what == "everything" else blocks
        logits, cache = model.run_with_cache(torch.tensor([ids]), names_filter=names, prepend_bos=False)
        if save:
            streams = np.stack([cache[name][0].numpy() for name in blocks])
            np.savez(save, logits=logits[0].numpy(), blocks=streams)

    return trace
