"""The prompts of a verification: short, ordinary, odd, and as long as the model allows."""

from dataclasses import dataclass

from max_gpt2.config import GPT2Config
from max_gpt2.tokenizer import GPT2Tokenizer

SENTENCE = "It was the best of times, it was the worst of times, and nobody could tell which."
EMOJI = "Good morning 🌍! Ça va? 你好, мир… 🙂🙃"


@dataclass(frozen=True)
class Prompt:
    """A prompt and its ids, at most `n_positions` of them."""

    name: str
    tokens: list[int]


def make_prompts(tokenizer: GPT2Tokenizer, config: GPT2Config) -> list[Prompt]:
    """Return four prompts: one token, a sentence, one with emoji, and one that fills the context."""
    sentence, emoji = tokenizer.encode(SENTENCE), tokenizer.encode(EMOJI)
    repeats = config.n_positions // len(sentence + emoji) + 1
    everything = {
        "one token": sentence[:1],
        "a sentence": sentence,
        "with emoji": emoji,
        "the full context": (sentence + emoji) * repeats,
    }
    return [Prompt(name, ids[: config.n_positions]) for name, ids in everything.items()]
