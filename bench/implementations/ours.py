"""max-gpt2, through its Python API."""

from collections.abc import Callable
from dataclasses import replace

from max_gpt2 import GPT2
from max_gpt2.generation import Engine


def load(folder: str) -> Callable[[list[list[int]], int], list[list[int]]]:
    """Load a folder in Hugging Face's layout."""
    engine = GPT2.from_pretrained(folder).engine
    endless = replace(engine.model, config=replace(engine.model.config, eos_token_ids=()))
    gpt2 = GPT2(Engine(endless, engine.tokenizer))

    def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
        outputs = gpt2.generate(prompts, batch_size=len(prompts), max_new_tokens=new, temperature=0)
        return [one.tokens for one in outputs]

    return generate
