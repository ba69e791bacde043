"""Measure the perplexity of a text under the protocols of `max_gpt2.scoring.protocols`."""

import math
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError, TokenizerError
from max_gpt2.generation import encode_prompt
from max_gpt2.model.scoring import TokenScores, Window
from max_gpt2.scoring.protocols import PROTOCOLS, Block, Denominator, Protocol, ProtocolName, Settings, check_names
from max_gpt2.scoring.score import perplexity
from max_gpt2.scoring.scorer import Scorer
from max_gpt2.tokenizer import GPT2Tokenizer


@dataclass(frozen=True)
class Measurement:
    """A perplexity, with all that one must know to compute it again.

    Attributes:
        protocol: The name of the protocol.
        source: The program that defines it.
        window: The window in tokens.
        stride: The stride in tokens.
        bos: Whether a BOS token is added.
        counted: A description of the tokens that count.
        scored_tokens: The number of tokens that have a log probability in it.
        denominator: The unit of the perplexity.
        count: The number of these units.
        nll: The negative log-likelihood in nats.
        perplexity: exp(nll / count).
        bits_per_byte: The negative log-likelihood in bits, per byte of UTF-8 of the tokens that count.

    """

    protocol: ProtocolName
    source: str
    window: int
    stride: int
    bos: bool
    counted: str
    scored_tokens: int
    denominator: Denominator
    count: int
    nll: float
    perplexity: float
    bits_per_byte: float


@dataclass(frozen=True)
class PerplexityReport:
    """The perplexities and the size of a text; `skipped` has the reason for each protocol without a result."""

    tokens: int
    words: int
    bytes: int
    results: list[Measurement] = field(default_factory=list)
    skipped: dict[ProtocolName, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class PerplexityOptions:
    """The options of `measure`: the names of protocols, or none for all; None stands for a protocol's default."""

    protocols: Sequence[str] = ()
    window: int | None = None
    stride: int | None = None
    bos: bool | None = None


@dataclass(frozen=True)
class Plan:
    """A protocol with its settings, the text that it scores, its ids, and the id of a BOS to add (None: none)."""

    protocol: Protocol
    settings: Settings
    text: str
    ids: list[int]
    bos_id: int | None

    def blocks(self) -> Iterator[Block]:
        """Return the blocks of the text."""
        return self.protocol.cut(self.ids, self.settings, self.bos_id)


@dataclass
class _Total:
    """The sums over the blocks of a plan; `counted` tokens have `nll` in nats."""

    nll: float = 0.0
    counted: int = 0
    scored: int = 0
    bytes: int = 0

    def add(self, tokenizer: GPT2Tokenizer, block: Block, scores: TokenScores) -> None:
        """Add the scores of a block."""
        self.nll -= float(np.mean(scores.logprobs)) * block.counted
        self.counted += block.counted
        self.scored += len(block.window.targets)
        self.bytes += sum(len(tokenizer.token_bytes(id_)) for id_ in block.window.targets)


def read_text(path: Path) -> str:
    """Read a file of UTF-8 without changing line ends; raises RequestError when it cannot be read or is empty."""
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not valid UTF-8 at byte {error.start}. Convert it to UTF-8.") from error
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}). Give the path of a text file.") from error
    if not text:
        raise RequestError(f"{path} is empty, so it has no perplexity. Give a file with a text.")
    return text


def plan_perplexity(
    config: GPT2Config, tokenizer: GPT2Tokenizer, text: str, options: PerplexityOptions
) -> tuple[list[Plan], PerplexityReport]:
    """Check a text and the options; return what to compute, and a report without results.

    With a single protocol, raise RequestError when it cannot be computed. With several, `stride` and `bos` apply to
    those that leave them open, and the report names those that cannot be computed; raise RequestError if none can.
    """
    names = list(options.protocols) or list(PROTOCOLS)
    check_names(names)
    if not text:
        raise RequestError("The text is empty, so it has no perplexity. Give a text.")
    report = PerplexityReport(len(encode_prompt(tokenizer, text)), len(re.split(r"\s+", text)), len(text.encode()))
    encoded: dict[str, list[int]] = {}
    plans = []
    for protocol in (PROTOCOLS[name] for name in PROTOCOLS if name in names):
        alone = len(names) == 1
        stride = options.stride if alone or protocol.stride else None
        bos = options.bos if alone or protocol.bos is None else None
        settings = protocol.settings(config.n_positions, options.window, stride, bos)
        part = protocol.text(text)
        if part not in encoded:
            encoded[part] = tokenizer.encode(part)
        ids = encoded[part]
        length, minimum = len(ids) + settings.bos, protocol.minimum(settings)
        if length < minimum:
            report.skipped[protocol.name] = _too_short(protocol, settings, length, minimum)
            continue
        try:
            bos_id = tokenizer.start_id if settings.bos else None
        except TokenizerError:
            report.skipped[protocol.name] = f"The tokenizer has no BOS token, which {protocol.name} needs."
            continue
        plans.append(Plan(protocol, settings, part, ids, bos_id))
    if not plans:
        raise RequestError(next(iter(report.skipped.values())))
    return plans, report


def measure(scorer: Scorer, plans: Sequence[Plan], report: PerplexityReport) -> PerplexityReport:
    """Score the blocks of plans and return the report with their results.

    Protocols with equal blocks are scored once. Raises RequestError for scores that are not finite.
    """
    totals: dict[tuple[object, ...], _Total] = {}
    results = []
    for plan in plans:
        key = (plan.protocol.cut, plan.settings, plan.text)
        if key not in totals:
            totals[key] = _total(scorer, plan)
        results += [_result(plan, totals[key], unit, report) for unit in plan.protocol.denominators]
    return replace(report, results=results)


def measure_each(
    scorer: Scorer, texts: Iterable[str | RequestError], options: PerplexityOptions
) -> Iterator[PerplexityReport | RequestError]:
    """Yield the report of each text under one protocol, or the error of one that has none, in order.

    `texts` is read lazily, some batches ahead; an error in it is passed on.
    """
    remaining = iter(texts)
    while (first := next(remaining, None)) is not None:
        yield from _measure_some(scorer, chain([first], remaining), options)


#: The most texts that wait for the text before them, so that a file of invalid texts does not fill the memory.
_MOST_WAITING = 4096


def _measure_some(
    scorer: Scorer, texts: Iterator[str | RequestError], options: PerplexityOptions
) -> Iterator[PerplexityReport | RequestError]:
    """Yield the reports of the next texts: of all of them unless too many would wait."""
    waiting = deque[RequestError | tuple[Plan, PerplexityReport, list[Block]]]()

    def windows() -> Iterator[Window]:
        for text in texts:
            try:
                if isinstance(text, RequestError):
                    raise text
                (plan,), report = plan_perplexity(scorer.config, scorer.tokenizer, text, options)
            except RequestError as error:
                waiting.append(error)
            else:
                blocks = list(plan.blocks())
                waiting.append((plan, report, blocks))
                yield from (block.window for block in blocks)
            if len(waiting) >= _MOST_WAITING:
                return

    scores = scorer.score_each(windows())
    found = next(scores, None)
    while waiting:
        head = waiting.popleft()
        if isinstance(head, RequestError):
            yield head
            continue
        plan, report, blocks = head
        total, error = _Total(), None
        for block in blocks:
            if isinstance(found, RequestError):
                error = found
            elif found is not None:
                total.add(scorer.tokenizer, block, found)
            found = next(scores, None)
        yield error or replace(
            report, results=[_result(plan, total, unit, report) for unit in plan.protocol.denominators]
        )


def _total(scorer: Scorer, plan: Plan) -> _Total:
    """Sum the negative log-likelihoods of a plan's blocks."""
    read: deque[Block] = deque()  # the blocks that the scorer has read and not yet returned

    def windows() -> Iterator[Window]:
        for block in plan.blocks():
            read.append(block)
            yield block.window

    total = _Total()
    for scores in scorer.score(windows()):
        total.add(scorer.tokenizer, read.popleft(), scores)
    return total


def _result(plan: Plan, total: _Total, unit: Denominator, report: PerplexityReport) -> Measurement:
    counts: dict[Denominator, int] = {"token": total.counted, "word": report.words, "byte": report.bytes}
    count = counts[unit]
    per_scored_token = total.nll / total.counted
    size = len(plan.text.encode()) if total.scored == len(plan.ids) else total.bytes
    return Measurement(
        protocol=plan.protocol.name,
        source=plan.protocol.source,
        **asdict(plan.settings),
        counted=plan.protocol.counted,
        scored_tokens=total.scored,
        denominator=unit,
        count=count,
        nll=total.nll,
        perplexity=perplexity(-total.nll, count),
        bits_per_byte=per_scored_token * total.scored / size / math.log(2),
    )


def _too_short(protocol: Protocol, settings: Settings, length: int, minimum: int) -> str:
    bos = ", BOS included" if settings.bos else ""
    remedy = "Add a BOS token with --bos" if protocol.stride else "Choose a smaller --window"
    return (
        f"The text has {length} token{'s' * (length > 1)}{bos}, but {protocol.name} with a window of {settings.window} "
        f"needs at least "
        f"{minimum}. {remedy}, or give a longer text."
    )
