"""The demo checkpoint in transformers: its tokens, weights, activations and logits for the figures."""

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
    """Return the model in float32, with an attention that can return its weights."""
    quiet_transformers()
    return GPT2LMHeadModel.from_pretrained(DEMO, dtype=torch.float32, attn_implementation="eager").eval()


@cache
def tokenizer() -> GPT2Tokenizer:
    """Return its tokenizer."""
    return GPT2Tokenizer.from_folder(DEMO, model().config.vocab_size)


def ids(text: str) -> torch.Tensor:
    """Return the token ids of a text: [1, seq]."""
    return torch.tensor([tokenizer().encode(text)])


def tokens(text: str) -> list[str]:
    """Return the tokens of a text as strings."""
    return [tokenizer().decode([one]).strip() for one in ids(text)[0].tolist()]


def weight(name: str) -> np.ndarray:
    """Return a tensor of the checkpoint."""
    return model().state_dict()[name].numpy()


@dataclass(frozen=True)
class Activations:
    """The activations of the model for `SENTENCE`: the output of each module by name, [seq, width]."""

    outputs: dict[str, np.ndarray]
    attention: np.ndarray
    """[n_layer, n_head, seq, seq]"""


@cache
def activations() -> Activations:
    """Run the model once and record the output of every module."""
    with _recorded() as outputs, torch.no_grad():
        result = model()(ids(SENTENCE), output_attentions=True)
    return Activations(outputs, np.stack([weights[0].numpy() for weights in result.attentions]))


@contextmanager
def _recorded() -> Iterator[dict[str, np.ndarray]]:
    outputs: dict[str, np.ndarray] = {}

    def hook(name: str) -> Any:
        def record(_module: Any, _inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            if isinstance(first, torch.Tensor):
                outputs[name] = first.reshape(-1, first.shape[-1]).numpy()

        return record

    handles = [module.register_forward_hook(hook(name)) for name, module in model().transformer.named_modules()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def next_logits(text: str) -> np.ndarray:
    """Return the logits of the next token after a text: [vocab]."""
    with torch.no_grad():
        return model()(ids(text)).logits[0, -1].numpy()
