"""transformers, through its `generate`: PyTorch, `sdpa`, float32, two threads."""

from collections.abc import Callable

import torch
import transformers


def load(folder: str) -> Callable[[list[list[int]], int], list[list[int]]]:
    """Load a folder in Hugging Face's layout."""
    torch.set_num_threads(2)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()

    def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
        ids = torch.tensor(prompts)
        greedily = transformers.GenerationConfig(do_sample=False, max_new_tokens=new, eos_token_id=None, pad_token_id=0)
        rows = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=greedily)
        return rows[:, ids.shape[1] :].tolist()

    return generate
