"""Score an iterable of texts in batches, in order; the batch never changes a result."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from max_gpt2.errors import RequestError
from max_gpt2.model.scoring import TokenScores, Window
from max_gpt2.scoring.correction import boundary_mask, correct
from max_gpt2.scoring.options import ScoreOptions
from max_gpt2.scoring.score import Score
from max_gpt2.scoring.scorer import Scorer
from max_gpt2.scoring.spans import TokenizedText, token_text, tokenize
from max_gpt2.scoring.windows import context_lengths, sliding_windows

#: Texts are read ahead up to this many tokens, so that texts of similar length share a batch.
_READ_AHEAD_TOKENS = 32768
_READ_AHEAD_TEXTS = 4096


def score_texts(
    scorer: Scorer, texts: Iterable[str | Sequence[int]], options: ScoreOptions
) -> Iterator[Score | RequestError]:
    """Yield the score of each text, or the error of an invalid one, in order.

    A text is a string or a sequence of token ids. `texts` is read lazily, some batches ahead. Raises RequestError
    immediately for options that do not fit the model.
    """
    resolved = options.resolve(scorer.config)
    if resolved.bos:
        _ = scorer.tokenizer.start_id  # raises TokenizerError if there is none
    mask = None
    if resolved.word_boundary_correction:
        mask = boundary_mask(scorer.tokenizer, scorer.config.vocab_size)
    return _Run(scorer, resolved, mask).score(iter(texts))


@dataclass(frozen=True)
class _Run:
    """The parts that all texts of a run share: the scorer, the options, and the mask of the correction, if any."""

    scorer: Scorer
    options: ScoreOptions
    mask: np.ndarray | None

    def score(self, texts: Iterator[str | Sequence[int]]) -> Iterator[Score | RequestError]:
        while ahead := self._read_ahead(texts):
            windows = [list(self._windows(one)) if isinstance(one, TokenizedText) else [] for one in ahead]
            scores = self.scorer.score_each(
                (window for some in windows for window in some), top=self.options.top, mask=self.mask
            )
            for text, some in zip(ahead, windows, strict=True):
                yield self._score(text, some, list(islice(scores, len(some))))

    def _read_ahead(self, texts: Iterator[str | Sequence[int]]) -> list[TokenizedText | RequestError]:
        """Tokenize the next texts: at least one, unless there are none."""
        ahead: list[TokenizedText | RequestError] = []
        tokens = 0
        for text in islice(texts, _READ_AHEAD_TEXTS):
            try:
                tokenized = self._tokenize(text)
            except RequestError as error:
                ahead.append(error)
                continue
            ahead.append(tokenized)
            tokens += len(tokenized.ids)
            if tokens >= _READ_AHEAD_TOKENS:
                break
        return ahead

    def _tokenize(self, text: str | Sequence[int]) -> TokenizedText:
        tokenized = tokenize(self.scorer.tokenizer, self.scorer.config.vocab_size, text)
        if not self.options.bos and (count := len(tokenized.ids)) < 2:
            raise RequestError(
                f"The text has only {count} token{'' if count == 1 else 's'}. Give at least two, or use BOS: without "
                "it, the first token has no probability."
            )
        return tokenized

    def _windows(self, text: TokenizedText) -> Iterator[Window]:
        """Return the windows of a text; the correction also needs the distribution after its last token."""
        if not text.ids or not self.options.window or not self.options.stride:  # the latter two are resolved
            return iter(())
        sequence = [self.scorer.tokenizer.start_id, *text.ids] if self.options.bos else text.ids
        window, stride = self.options.window, self.options.stride
        return sliding_windows(sequence, window, stride, open_end=self.mask is not None)

    def _score(
        self, text: TokenizedText | RequestError, windows: list[Window], scores: list[TokenScores | RequestError]
    ) -> Score | RequestError:
        """Join the scores of the windows of a text."""
        if isinstance(text, RequestError):
            return text
        found: list[TokenScores] = []
        for one in scores:
            if isinstance(one, RequestError):
                return one
            found.append(one)
        return self._join(text, context_lengths(windows), found)

    def _join(self, text: TokenizedText, contexts: list[int], scores: list[TokenScores]) -> Score:
        options, count = self.options, len(text.ids)
        unit = options.log_of_base
        missing = 0 if options.bos else min(1, count)  # the first token has no distribution

        def tokens(name: str, empty: float, *shape: int) -> np.ndarray:
            """Return a field of the scores for each token: [tokens, *shape]."""
            parts = [getattr(one, name) for one in scores]
            joined = np.concatenate([np.full((missing, *shape), empty, dtype=type(empty)), *parts])
            return joined[:count]

        logprobs = tokens("logprobs", np.nan)
        if self.mask is not None and count:
            after = np.concatenate([one.mask_logprobs for one in scores])[1 - missing :]  # after each token
            logprobs = correct(logprobs, after, self.mask[text.ids])
        top_ids = tokens("top_ids", -1, options.top) if options.top else None
        names = {id_ for id_ in np.unique(top_ids).tolist() if id_ >= 0} if top_ids is not None else set()
        tokenizer = self.scorer.tokenizer
        return Score(
            text.text,
            text.ids,
            [token_text(tokenizer, id_) for id_ in text.ids],
            text.spans,
            logprobs / unit,
            np.array([0] * missing + contexts, dtype=np.int64)[:count],
            options,
            ranks=tokens("ranks", 0) if options.ranks else None,
            entropies=tokens("entropies", np.nan) / unit if options.entropy else None,
            top_ids=top_ids,
            top_logprobs=tokens("top_logprobs", np.nan, options.top) / unit if options.top else None,
            top_texts={id_: token_text(tokenizer, id_) for id_ in names} if options.top else None,
        )
