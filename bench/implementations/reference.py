"""transformers, through its `generate` and its forward pass: PyTorch, `sdpa`, float32, two threads."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers


def load(folder: str) -> Callable[[list[list[int]], int], list[list[int]]]:
    """Load a folder in Hugging Face's layout."""
    model = _load(folder)

    def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
        ids = torch.tensor(prompts)
        greedily = transformers.GenerationConfig(do_sample=False, max_new_tokens=new, eos_token_id=None, pad_token_id=0)
        rows = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=greedily)
        return rows[:, ids.shape[1] :].tolist()

    return generate


def load_scorer(folder: str) -> Callable[[list[list[int]]], list[list[float]]]:
    """Load a folder in Hugging Face's layout; a score is a forward pass, `log_softmax` and `gather`."""
    model = _load(folder)

    @torch.no_grad()
    def score(texts: list[list[int]]) -> list[list[float]]:
        ids = torch.tensor(texts)
        logits = model(ids[:, :-1], use_cache=False).logits
        return logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0].tolist()

    return score


def load_tracer(folder: str) -> Callable[..., None]:
    """Load a folder; a trace is a forward pass with `output_hidden_states`."""
    return _tracer(_load(folder), "sdpa")


def load_eager_tracer(folder: str) -> Callable[..., None]:
    """Load a folder; everything is `output_hidden_states` and `output_attentions`, which is less than the others do."""
    return _tracer(_load(folder), "eager")


def _tracer(model: Any, attention: str) -> Callable[..., None]:
    model.set_attn_implementation(attention)

    @torch.no_grad()
    def trace(ids: list[int], what: str, save: str | None = None) -> None:
        options = {"output_hidden_states": True, "use_cache": False, "logits_to_keep": int(what == "blocks")}
        found = model(torch.tensor([ids]), output_attentions=what == "everything", **options)
        if save:
            *states, _ = found.hidden_states[1:]  # the last one is after ln_f
            np.savez(save, logits=found.logits[0].numpy(), blocks=torch.cat(states).numpy())

    return trace


def _load(folder: str) -> Any:
    torch.set_num_threads(2)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
