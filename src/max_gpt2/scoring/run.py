"""Score an iterable of texts in batches, in order; the batch never changes a result."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.model.scoring import TokenScores, Window
from max_gpt2.scoring.correction import boundary_mask, correct
from max_gpt2.scoring.options import ScoreOptions
from max_gpt2.scoring.score import Score
from max_gpt2.scoring.scorer import Scorer, read_ahead_tokens
from max_gpt2.scoring.spans import TokenizedText, token_text, tokenize
from max_gpt2.scoring.windows import sliding_windows
from max_gpt2.tokenizer import GPT2Tokenizer

#: Texts are read ahead, so that texts of similar length share a batch: up to `read_ahead_tokens`, and this many texts.
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


def tokenize_text(
    tokenizer: GPT2Tokenizer, config: GPT2Config, text: str | Sequence[int], options: ScoreOptions
) -> TokenizedText:
    """Tokenize a text that is to be scored; raises RequestError if it has no score with these options."""
    tokenized = tokenize(tokenizer, config.vocab_size, text)
    if not options.bos and (count := len(tokenized.ids)) < 2:
        raise RequestError(
            f"The text has only {count} token{'' if count == 1 else 's'}. Give at least two, or use BOS: without it, "
            "the first token has no probability."
        )
    return tokenized


@dataclass(frozen=True)
class _Run:
    """The parts that all texts of a run share: the scorer, the options, and the mask of the correction, if any."""

    scorer: Scorer
    options: ScoreOptions
    mask: np.ndarray | None
    token_texts: dict[int, str] = field(default_factory=dict)

    def score(self, texts: Iterator[str | Sequence[int]]) -> Iterator[Score | RequestError]:
        while ahead := self._read_ahead(texts):
            shapes: deque[tuple[int, int]] = deque()
            scores = self.scorer.score_each(self._windows(ahead, shapes), top=self.options.top, mask=self.mask)
            for text in ahead:
                yield text if isinstance(text, RequestError) else self._score(text, shapes, scores)

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
            if tokens >= read_ahead_tokens(self.options.top):
                break
        return ahead

    def _tokenize(self, text: str | Sequence[int]) -> TokenizedText:
        return tokenize_text(self.scorer.tokenizer, self.scorer.config, text, self.options)

    def _sequence(self, text: TokenizedText) -> list[int]:
        return [self.scorer.tokenizer.start_id, *text.ids] if self.options.bos and text.ids else text.ids

    def _windows(
        self, texts: Iterable[TokenizedText | RequestError], shapes: deque[tuple[int, int]]
    ) -> Iterator[Window]:
        """Yield the windows of texts, and append the numbers of inputs and targets of each to `shapes`.

        The correction also needs the distribution after the last token of a text.
        """
        window, stride = self.options.window or 0, self.options.stride or 0  # both are resolved
        for text in texts:
            if isinstance(text, TokenizedText):
                for one in sliding_windows(self._sequence(text), window, stride, open_end=self.mask is not None):
                    shapes.append((len(one.inputs), len(one.targets)))
                    yield one

    def _score(
        self, text: TokenizedText, shapes: deque[tuple[int, int]], scores: Iterator[TokenScores | RequestError]
    ) -> Score | RequestError:
        """Take the windows of a text and join their scores; return the last error if there are any."""
        contexts: list[np.ndarray] = []
        found: list[TokenScores] = []
        error: RequestError | None = None
        missing = len(self._sequence(text)) - (self.mask is None)
        while missing > 0:
            one, (inputs, targets) = next(scores), shapes.popleft()
            missing -= targets
            if isinstance(one, RequestError):
                error = one
            else:
                found.append(one)
                contexts.append(np.arange(inputs - targets, inputs) + 1)
        return self._join(text, contexts, found) if error is None else error

    def _join(self, text: TokenizedText, contexts: list[np.ndarray], scores: list[TokenScores]) -> Score:
        options, count = self.options, len(text.ids)
        missing = int(count > 0 and not options.bos)  # the first token has no distribution

        def join(parts: list[np.ndarray], empty: float, *shape: int) -> np.ndarray:
            """Return the values of all tokens, [tokens, *shape], `empty` for one without a distribution."""
            return np.concatenate([np.full((missing, *shape), empty, dtype=type(empty)), *parts])[:count]

        logprobs = join([one.logprobs for one in scores], np.nan)
        if self.mask is not None and count:
            after = np.concatenate([one.mask_logprobs for one in scores])[1 - missing :]  # after each token
            logprobs = correct(logprobs, after, self.mask[text.ids])
        unit = options.log_of_base
        score = Score(
            text.text,
            text.ids,
            [self._text(id_) for id_ in text.ids],
            text.spans,
            logprobs / unit,
            join(contexts, 0),
            options,
            ranks=join([one.ranks for one in scores], 0) if options.ranks else None,
            entropies=join([one.entropies for one in scores], np.nan) / options.log_of_base
            if options.entropy
            else None,
        )
        if not options.top:
            return score
        top_ids = join([one.top_ids for one in scores], -1, options.top)
        top_logprobs = join([one.top_logprobs for one in scores], np.nan, options.top) / unit
        top_texts = {id_: self._text(id_) for id_ in np.unique(top_ids).tolist() if id_ >= 0}
        return replace(score, top_ids=top_ids, top_logprobs=top_logprobs, top_texts=top_texts)

    def _text(self, id_: int) -> str:
        if id_ not in self.token_texts:
            self.token_texts[id_] = token_text(self.scorer.tokenizer, id_)
        return self.token_texts[id_]
