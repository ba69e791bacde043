"""Score windows of token ids in batches; the batch never changes a result."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from max_gpt2._progress import COMPILING, Runner, silently
from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.generation import ModelSource
from max_gpt2.model.compile_cache import load_or_compile_scoring
from max_gpt2.model.scoring import ScoringModel, TokenScores, Window
from max_gpt2.system.machine import import_pyarrow
from max_gpt2.tokenizer import GPT2Tokenizer

#: The most input tokens of one call of the graph; a single longer window is a call of its own.
BATCH_TOKENS = 2048
#: Windows are read ahead up to this many tokens and sorted by length, so that a batch wastes little memory.
_READ_AHEAD_TOKENS = 16 * BATCH_TOKENS


def read_ahead_tokens(top: int) -> int:
    """Return the number of tokens to read ahead: fewer if each token has `top` alternatives, which take memory."""
    return _READ_AHEAD_TOKENS // (1 + top // 8)


@dataclass(frozen=True)
class Scorer:
    """A scoring model with its config and tokenizer; `load_scorer` loads one."""

    config: GPT2Config
    tokenizer: GPT2Tokenizer
    model: ScoringModel
    batch_tokens: int = BATCH_TOKENS

    def score(
        self, windows: Iterable[Window], *, top: int = 0, mask: np.ndarray | None = None
    ) -> Iterator[TokenScores]:
        """Yield the scores of windows in order.

        `top` is the number of most likely ids to return for each target; `mask`, [vocab] of bool, selects the ids of
        `TokenScores.mask_logprobs`. Raises RequestError for scores that are not finite.
        """
        for scores in self.score_each(windows, top=top, mask=mask):
            if isinstance(scores, RequestError):
                raise scores
            yield scores

    def score_each(
        self, windows: Iterable[Window], *, top: int = 0, mask: np.ndarray | None = None
    ) -> Iterator[TokenScores | RequestError]:
        """Yield the scores of windows in order as `score` does, and an error for each window without finite scores."""
        masked = np.zeros(self.config.vocab_size, dtype=bool) if mask is None else mask
        waiting = iter(windows)
        while ahead := _read_ahead(waiting, read_ahead_tokens(top)):
            found: dict[int, TokenScores] = {}
            order = sorted(range(len(ahead)), key=lambda index: len(ahead[index].inputs))
            for batch in self._batches(ahead, order):
                scores = self.model.score([ahead[index] for index in batch], top, masked)
                found.update(zip(batch, scores, strict=True))
            for index in range(len(ahead)):
                yield _checked(found[index])

    def _batches(self, windows: list[Window], order: list[int]) -> Iterator[list[int]]:
        """Cut indices, ascending by length, so that each batch padded to its longest window has `batch_tokens`."""
        batch: list[int] = []
        for index in order:
            if batch and (len(batch) + 1) * len(windows[index].inputs) > self.batch_tokens:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch


def _read_ahead(waiting: Iterator[Window], limit: int) -> list[Window]:
    """Take the next windows with `limit` tokens: at least one, unless there are none."""
    ahead, tokens = [], 0
    for window in waiting:
        ahead.append(window)
        tokens += len(window.inputs)
        if tokens >= limit:
            break
    return ahead


def _checked(scores: TokenScores) -> TokenScores | RequestError:
    if np.isfinite(scores.entropies).all():
        return scores
    return RequestError(
        "The model's logits are not finite for this text, so it has no score. Check the weights: max-gpt2 info."
    )


def load_scorer(opened: ModelSource, run: Runner = silently) -> Scorer:
    """Load the weights of a checkpoint and compile the scoring graph.

    Raises CheckpointError if the weights are damaged.
    """
    import_pyarrow()
    weights = opened.load_weights(run)
    model = run(COMPILING, lambda: load_or_compile_scoring(opened.config, weights, opened.options.kernels))
    return Scorer(opened.config, opened.tokenizer, model)
