"""max-gpt2, through its API."""

from collections.abc import Callable

from max_gpt2 import GPT2


def load(folder: str) -> Callable[[list[list[int]], int], list[list[int]]]:
    """Load a folder in Hugging Face's layout."""
    gpt2 = GPT2.from_pretrained(folder)
    endings = [*gpt2.config.eos_token_ids]

    def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
        options = {"max_new_tokens": new, "temperature": 0, "min_new_tokens": new if endings else 0}
        return [one.tokens for one in gpt2.generate(prompts, batch_size=len(prompts), **options)]

    return generate
