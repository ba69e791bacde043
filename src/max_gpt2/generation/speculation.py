"""Speculation: guess the next tokens and check all of them in one pass over the weights.

Logits do not depend on how many tokens a pass computes, bit for bit, so a guess is accepted exactly when it is the
token that would have been chosen anyway: speculation changes the speed and nothing else. Leviathan et al. 2023 and
Chen et al. 2023 accept drafts at random instead, which keeps the distribution but not the text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from max_gpt2.config import GPT2Config, Kernels
from max_gpt2.errors import RequestError
from max_gpt2.generation.params import check_cache_memory
from max_gpt2.model import CompiledModel
from max_gpt2.tokenizer import GPT2Tokenizer

#: Takes logits [vocab] and the tokens drafted so far; returns the token that would be chosen after them.
Choose = Callable[[np.ndarray, list[int]], int]


class Drafter(Protocol):
    """Drafts the continuation of one sequence."""

    def draft(self, tokens: Sequence[int], count: int, choose: Choose) -> list[int]:
        """Return at most `count` tokens that may follow `tokens`, which only grow from call to call."""
        ...


class Speculation(Protocol):
    """A way to draft; `start` is called for each sequence."""

    def check(self, kernels: Kernels, sequences: int) -> None:
        """Raise RequestError if the model cannot check drafts, or the memory does not suffice for `sequences`."""
        ...

    def start(self) -> Drafter:
        """Return a drafter for a new sequence."""
        ...


@dataclass(frozen=True)
class NgramSpeculation:
    """Draft what followed the last tokens when they occurred before, in the prompt or in the text so far.

    Saxena 2023, "Prompt Lookup Decoding".
    """

    def check(self, kernels: Kernels, sequences: int) -> None:
        """See `Speculation`."""
        del sequences
        check_kernels(kernels)

    def start(self) -> "NgramDrafter":
        """Return a drafter for a new sequence."""
        return NgramDrafter()


class NgramDrafter:
    """Finds the longest of the last n-grams that has occurred before; linear in the tokens of the sequence."""

    SIZES = (4, 3, 2)

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}  # n-gram -> the index after its last occurrence
        self._indexed = 0

    def draft(self, tokens: Sequence[int], count: int, choose: Choose) -> list[int]:
        """See `Drafter`."""
        del choose
        for end in range(self._indexed + 1, len(tokens)):  # without the n-grams at the end, which are looked up
            for size in self.SIZES:
                if size <= end:
                    self._after[tuple(tokens[end - size : end])] = end
        self._indexed = max(self._indexed, len(tokens) - 1)
        found = (self._after.get(tuple(tokens[-size:])) for size in self.SIZES if size < len(tokens))
        start = next((one for one in found if one is not None), None)
        if start is None:
            return []
        # What follows may reach the end of the text, as in a text that repeats itself: go on with the draft.
        period = len(tokens) - start
        return [tokens[start + index % period] for index in range(count)]


@dataclass(frozen=True)
class ModelSpeculation:
    """Draft with a smaller model, which chooses with the same random numbers."""

    model: CompiledModel

    def check(self, kernels: Kernels, sequences: int) -> None:
        """See `Speculation`."""
        check_kernels(kernels)
        check_cache_memory(self.model.config, sequences, self.model.config.n_positions)

    def start(self) -> "ModelDrafter":
        """Return a drafter for a new sequence."""
        return ModelDrafter(self.model)


class ModelDrafter:
    """Runs a model on the sequence; drafts nothing once the sequence fills its context."""

    def __init__(self, model: CompiledModel) -> None:
        self._context = model.config.n_positions
        self._session = model.session(1, self._context)
        self._cached: list[int] = []  # the tokens in the cache: of the sequence, and then of the last draft
        self._seen = 0

    def draft(self, tokens: Sequence[int], count: int, choose: Choose) -> list[int]:
        """See `Drafter`."""
        count = min(count, self._context - len(tokens))
        if count < 1:
            return []
        same = min(self._seen, len(self._cached))
        while same < min(len(tokens) - 1, len(self._cached)) and tokens[same] == self._cached[same]:
            same += 1
        self._session.copy(0, 0, same)
        drafted: list[int] = []
        new = list(tokens[same:])
        self._cached, self._seen = list(tokens), len(tokens) - 1
        while True:
            ((*_, logits),) = self._session.extend({0: new})
            drafted.append(choose(logits, drafted))
            if len(drafted) == count:
                return drafted
            new = drafted[-1:]
            self._cached += new


class DraftLength:
    """Adapts the number of drafted tokens: longer after success, and pauses that grow after drafts that were useless.

    A draft costs time even if nothing of it is accepted, so that a text that cannot be guessed must not be drafted for
    at every token.
    """

    LONGEST, LONGEST_PAUSE = 8, 64

    def __init__(self) -> None:
        self._length, self._pause, self._left = 2, 1, 0

    def next(self) -> int:
        """Return the number of tokens to draft now; 0 during a pause."""
        if self._left:
            self._left -= 1
            return 0
        return self._length

    def update(self, drafted: int, accepted: int) -> None:
        """Learn from a draft of `drafted` tokens, at least one, of which the first `accepted` were right."""
        if accepted == drafted:
            self._length, self._pause = min(2 * self._length, self.LONGEST), 1
        elif accepted:
            self._length, self._pause = max(1, accepted), 1
        else:
            self._length = max(1, self._length // 2)
            self._left, self._pause = self._pause, min(2 * self._pause, self.LONGEST_PAUSE)


def check_kernels(kernels: Kernels) -> None:
    """Raise RequestError for kernels that cannot check drafts."""
    if kernels != "mojo":
        raise RequestError(
            f"The {kernels} kernels compute other bits for several tokens than for one, so a draft cannot be checked "
            "with them. Use the mojo kernels, or no speculation."
        )


def check_draft(tokenizer: GPT2Tokenizer, draft: GPT2Config, draft_tokenizer: GPT2Tokenizer) -> None:
    """Raise RequestError if the tokens of a draft model are not those of the model."""
    ours, theirs = tokenizer.vocab, draft_tokenizer.vocab
    if ours != theirs:
        other = next(iter(sorted(ours.items() ^ theirs.items(), key=lambda item: item[1])))
        raise RequestError(
            f"The draft model has another tokenizer: {other[0]!r} with the id {other[1]} is in one of them only. Use a "
            "model with the same tokenizer."
        )
    if draft.vocab_size < tokenizer.size:
        raise RequestError(
            f"The draft model has {draft.vocab_size} tokens, but the tokenizer {tokenizer.size}. Use a model "
            "with the same vocabulary."
        )
