"""Texts of many kinds: scripts, emoji, whitespace and lengths."""

import random

from max_gpt2.tokenizer import GPT2Tokenizer

_PIECES = [
    *("The", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "the", "dog", "lets", "it"),
    *("was", "the best of times?", "Dr. No", "don't", "l'état", "naïve", "3.14", "e.g. this", '"Yes!"', "(no.)"),
    *("猫が好き。", "你好\uff01", "Привет", "שלום", "हिन्दी", "e\u0301", "\u00a0", "\u3000", "\u200b", "ﬁ", "\x00"),
    *("🌍", "\U0001f469\u200d\U0001f467", "🇩🇪", "😀😀", "\U0001d54f", "<|endoftext|>", "&amp;", "<b>", "\\n", "\ufffd"),
]
_SPACES = [" "] * 12 + ["", "  ", "\t", "\n", "\r\n", "\n\n", "\n \n", "   \n", "\u2028", "\x0b"]
_FIXED = ["a", "the", " the", "\n", "\t", "  ", "\n\n\n", "é", "The dog", " The dog ", "dog\n", "\nthe\n\n\ndog\n\n"]


def random_text(rng: random.Random, pieces: int) -> str:
    """Return a text of a number of pieces, often with leading and trailing whitespace."""
    ends = [rng.choice(["", "", "", *_SPACES]) for _ in range(2)]
    words = [rng.choice(_PIECES) + rng.choice(_SPACES) for _ in range(pieces)]
    return ends[0] + "".join(words) + ends[1]


def sample_texts(tokenizer: GPT2Tokenizer, count: int, longest: int) -> list[str]:
    """Return `count` texts of 1 to `longest` tokens, most of them short, the same in every run."""
    rng = random.Random(19)
    texts = [random_text(rng, round(2 ** rng.uniform(0, 5))) for _ in range(count - len(_FIXED) - 2)]
    long = random_text(rng, longest // 7)
    filled = longest - len(tokenizer.encode(long))
    texts += [*_FIXED, "the dog was lazy. " * 40, long + "\n" + "\x00" * (filled - 1)]
    rng.shuffle(texts)
    return texts
