"""transformers, through its `generate` and its forward pass: PyTorch, `sdpa`, float32, two threads."""

from collections.abc import Callable
from typing import Any

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


def _load(folder: str) -> Any:
    torch.set_num_threads(2)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
