"""The checkpoint that ships, run by transformers: what the figures show of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from transformers import GPT2LMHeadModel

from max_gpt2.checkpoint.locate import DEMO
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.verify import quiet_transformers

SENTENCE = "Elizabeth could not help smiling, but she said nothing."


@cache
def model() -> Any:
    """Return the model in float32, which can say what its heads look at."""
    quiet_transformers()
    return GPT2LMHeadModel.from_pretrained(DEMO, dtype=torch.float32, attn_implementation="eager").eval()


@cache
def tokenizer() -> GPT2Tokenizer:
    """Return its tokenizer."""
    return GPT2Tokenizer.from_folder(DEMO, model().config.vocab_size)


def ids(text: str) -> torch.Tensor:
    """Return a text as one row of ids: [1, seq]."""
    return torch.tensor([tokenizer().encode(text)])


def tokens(text: str) -> list[str]:
    """Return the tokens of a text as they are read."""
    return [tokenizer().decode([one]).strip() for one in ids(text)[0].tolist()]


def weight(name: str) -> np.ndarray:
    """Return a tensor as the checkpoint has it."""
    return model().state_dict()[name].numpy()


@dataclass(frozen=True)
class Inside:
    """What the modules of the model gave while it read `SENTENCE`: `outputs` by their names, each [seq, width]."""

    outputs: dict[str, np.ndarray]
    attention: np.ndarray
    """[n_layer, n_head, seq, seq]"""


@cache
def inside() -> Inside:
    """Run the model once, and keep what every module gave."""
    with _recorded() as outputs, torch.no_grad():
        result = model()(ids(SENTENCE), output_attentions=True)
    return Inside(outputs, np.stack([one[0].numpy() for one in result.attentions]))


@contextmanager
def _recorded() -> Iterator[dict[str, np.ndarray]]:
    outputs: dict[str, np.ndarray] = {}

    def hook(name: str) -> Any:
        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            if isinstance(first, torch.Tensor):
                outputs[name] = first.reshape(-1, first.shape[-1]).numpy()

        return keep

    handles = [module.register_forward_hook(hook(name)) for name, module in model().transformer.named_modules()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def next_logits(text: str) -> np.ndarray:
    """Return the logits of the token after a text: [vocab]."""
    with torch.no_grad():
        return model()(ids(text)).logits[0, -1].numpy()
