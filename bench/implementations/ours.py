"""max-gpt2, through its Python API. Scoring and tracing are imported when they are measured, as `GPT2` does."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from max_gpt2 import GPT2
from max_gpt2.generation import Engine, open_model


def load(folder: str) -> Callable[[list[list[int]], int], list[list[int]]]:
    """Load a checkpoint in the types that its file stores."""
    engine = GPT2.from_pretrained(folder, weights="auto").engine
    endless = replace(engine.model, config=replace(engine.model.config, eos_token_ids=()))
    gpt2 = GPT2(Engine(endless, engine.tokenizer))

    def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
        outputs = gpt2.generate(prompts, batch_size=len(prompts), max_new_tokens=new, temperature=0)
        return [one.tokens for one in outputs]

    return generate


def load_scorer(folder: str) -> Callable[[list[list[int]]], list[list[float]]]:
    """Load the scoring graph, which computes logprobs, ranks and entropies."""
    from max_gpt2.model.scoring import Window
    from max_gpt2.scoring import load_scorer as load_our_scorer

    scorer = load_our_scorer(open_model(folder))

    def score(texts: list[list[int]]) -> list[list[float]]:
        return [one.logprobs.tolist() for one in scorer.score(Window(ids[:-1], ids[1:]) for ids in texts)]

    return score


def load_tracer(folder: str) -> Callable[..., None]:
    """Load a folder; everything is everything but the output of each head after `c_proj`, as in TransformerLens."""
    from max_gpt2.inspect import probe_names

    gpt2 = GPT2.from_pretrained(folder)
    names = [name for name in probe_names(gpt2.config) if not name.endswith(".attn.heads")]
    at = {"blocks": ["h.*"], "logits": ["h.*", "logits"], "everything": names}

    def trace(ids: list[int], what: str, save: str | None = None) -> None:
        found = gpt2.trace(ids, at=at[what])
        if save:
            blocks = np.stack([found[f"h.{layer}"] for layer in range(gpt2.config.n_layer)])
            np.savez(save, logits=found["logits"], blocks=blocks)

    return trace
