"""The prompts of a verification: short, ordinary, odd, and as long as the model allows."""

from dataclasses import dataclass

from max_gpt2.tokenizer import GPT2Tokenizer

SENTENCE = "It was the best of times, it was the worst of times, and nobody could tell which."
EMOJI = "Good morning 🌍! Ça va? 你好, мир… 🙂🙃"


@dataclass(frozen=True)
class Prompt:
    """A prompt and its ids, at most `n_positions` of them."""

    name: str
    tokens: list[int]


def make_prompts(tokenizer: GPT2Tokenizer, n_positions: int, vocab_size: int) -> list[Prompt]:
    """Return four prompts: one token, a sentence, one with emoji, and one that fills the context.

    The last goes on with ids from everywhere in the vocabulary, so that it looks at many rows of `wte`.
    """
    sentence, emoji = tokenizer.encode(SENTENCE), tokenizer.encode(EMOJI)
    everywhere = [vocab_size * step // n_positions for step in range(n_positions)]
    everything = {
        "one token": sentence[:1],
        "a sentence": sentence,
        "with emoji": emoji,
        "the full context": sentence + emoji + everywhere,
    }
    return [Prompt(name, ids[:n_positions]) for name, ids in everything.items()]
