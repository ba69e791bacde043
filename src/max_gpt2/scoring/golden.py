"""Check published numbers of a checkpoint: compute each claim and compare it."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from max_gpt2._progress import Runner, silently
from max_gpt2.errors import RequestError, TokenizerError
from max_gpt2.generation import Engine, ModelSource, Request, SamplingParams
from max_gpt2.scoring.claims import Claim
from max_gpt2.scoring.options import ScoreOptions
from max_gpt2.scoring.run import score_texts
from max_gpt2.scoring.score import Score
from max_gpt2.scoring.scorer import Scorer, load_scorer

Verdict = Literal["pass", "fail", "not run"]


@dataclass(frozen=True)
class Outcome:
    """The result of a claim: our value (None if it is not run), and the verdict.

    `difference` is the largest absolute difference of its numbers, or None for ids and texts. `problem` says why a
    claim could not be computed.
    """

    claim: Claim
    ours: Any
    verdict: Verdict
    difference: float | None = None
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return {
            **asdict(self.claim),
            "claim": self.claim.describe(),
            "ours": self.ours,
            "difference": self.difference,
            "verdict": self.verdict,
            "problem": self.problem,
        }


@dataclass
class Checker:
    """Computes claims for a checkpoint, and loads only those of its graphs that the claims need."""

    source: ModelSource
    run: Runner = silently

    @cached_property
    def engine(self) -> Engine:
        """The engine, for texts and logits."""
        return self.source.load(self.run).engine

    @cached_property
    def scorer(self) -> Scorer:
        """The scorer, for surprisals."""
        return load_scorer(self.source, self.run)

    def check(self, claims: Iterable[Claim]) -> Iterator[Outcome]:
        """Yield the outcome of each claim. A claim that the model cannot compute fails."""
        for claim in claims:
            if claim.kind == "data":
                yield Outcome(claim, None, "not run")
                continue
            try:
                yield self._compare(claim, self.compute(claim))
            except (RequestError, TokenizerError) as error:
                yield Outcome(claim, None, "fail", problem=str(error))

    def compute(self, claim: Claim) -> Any:
        """Return our value of a claim, of the type of `claim.expected`; raises RequestError if it has none."""
        if claim.kind == "token_ids":
            return self.source.tokenizer.encode(claim.text or "")
        if claim.kind == "greedy":
            return self._greedy(claim)
        if claim.kind == "argmax":
            ids = self._ids(claim)
            logits = self.engine.model.logits(np.array([ids]), len(ids) - 1)[0, -1]  # [vocab]
            best = int(logits[: self.source.tokenizer.size].argmax())
            return [best, float(logits[best])]
        score = self._score(claim)
        if claim.kind == "surprisals":
            return [-float(one) for one in score.logprobs if not math.isnan(one)]
        return score.surprisal / (score.counted if claim.kind == "mean_loss" else 1)

    def _ids(self, claim: Claim) -> list[int]:
        """Return the ids of the input; raises RequestError for none, ids out of range, or more than the context."""
        tokenizer, config = self.source.tokenizer, self.source.config
        ids = tokenizer.encode(claim.text) if claim.text is not None else list(claim.ids or ())
        ids = [tokenizer.start_id, *ids] if claim.bos else ids
        if not ids or max(ids) >= config.vocab_size or len(ids) > config.n_positions:
            raise RequestError("The model cannot read the input: it is empty, has unknown ids, or is too long.")
        return ids

    def _greedy(self, claim: Claim) -> str | list[int]:
        sampling = SamplingParams(temperature=0)
        request = Request(self._ids(claim), max_new_tokens=claim.max_new_tokens, sampling=sampling)
        found = self.engine.generate(request)
        return found.text if isinstance(claim.expected, str) else found.tokens

    def _score(self, claim: Claim) -> Score:
        options = ScoreOptions(bos=claim.bos, base=claim.base, word_boundary_correction=claim.word_boundary_correction)
        (score,) = score_texts(self.scorer, [claim.input], options)
        if isinstance(score, RequestError):
            raise score
        return score

    def _compare(self, claim: Claim, ours: Any) -> Outcome:
        """Compare numbers within the tolerance, and ids and texts exactly."""
        if claim.kind in ("token_ids", "greedy"):
            return Outcome(claim, ours, "pass" if ours == claim.expected else "fail")
        expected, found = _numbers(claim, claim.expected), _numbers(claim, ours)
        if len(expected) != len(found):
            problem = f"{len(found)} numbers instead of {len(expected)}"
            return Outcome(claim, ours, "fail", problem=problem)
        difference = float(np.abs(np.subtract(expected, found)).max())  # NaN if any is, and then not within
        same = difference <= claim.tolerance and (claim.kind != "argmax" or ours[0] == claim.expected[0])
        return Outcome(claim, ours, "pass" if same else "fail", difference)


def _numbers(claim: Claim, value: Any) -> Sequence[float]:
    """Return the numbers to compare: of an argmax, its logit only."""
    if claim.kind == "argmax":
        return [value[1]]
    return value if isinstance(value, list) else [value]
