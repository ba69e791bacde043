"""The correction of word probabilities for tokens with a leading space.

GPT-2's tokens carry the space before a word, so the probability that a word ends is part of the probability of the next
word: p("mat") sums over "mat", "mathematics" and all other words that begin with it. Pimentel and Meister (2024, "How
to Compute the Probability of a Word", arXiv 2406.14561) and Oh and Schuler (2024, arXiv 2406.10851) move it back:

    p(word | context) = p(tokens of the word | context) * p(B | context, word) / p(B | context)

B is the event that the next token starts a word, that is, with a space. The definition here is that of `minicons`
(`bow_correction`):

- B has the tokens whose text starts with a space; neither end-of-text nor line breaks are in it.
- A boundary is between two tokens when the second one is in B, and at the end of the text. Its log p(B) is added to the
  token before the boundary and subtracted from the one after it.
- Nothing is subtracted from the first token after BOS: no token before it could receive it.

All but the last boundary cancel in the sum over a text.
"""

import numpy as np

from max_gpt2.errors import RequestError
from max_gpt2.tokenizer import GPT2Tokenizer


def boundary_mask(tokenizer: GPT2Tokenizer, vocab_size: int) -> np.ndarray:
    """Return the ids whose text starts with a space: [vocab] of bool.

    Raises RequestError when the tokenizer has no such token.
    """
    mask = np.zeros(vocab_size, dtype=bool)
    for id_ in tokenizer.vocab.values():
        mask[id_] = tokenizer.token_bytes(id_).startswith(b" ")
    if not mask.any():
        raise RequestError(
            "This tokenizer has no token that starts with a space, so the word boundary correction does not apply. "
            "Remove it."
        )
    return mask


def correct(logprobs: np.ndarray, boundary_logprobs: np.ndarray, starts_word: np.ndarray) -> np.ndarray:
    """Return the corrected log probabilities of the tokens of a text: [tokens].

    `logprobs` is [tokens]; `boundary_logprobs[i]` is log p(B) after token `i`, [tokens]; `starts_word` [tokens] tells
    which tokens are in B.
    """
    at_boundary = np.append(starts_word[1:], True)
    moved = np.where(at_boundary, boundary_logprobs, 0.0)
    # p(B) is at least the probability of the token that follows; this keeps the difference finite if p(B) underflows.
    moved[:-1] = np.where(at_boundary[:-1], np.maximum(moved[:-1], logprobs[1:]), 0.0)
    return logprobs + moved - np.concatenate([[0.0], moved[:-1]])
