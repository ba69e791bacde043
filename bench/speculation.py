"""Benchmark speculation: the speed of generation with drafts of n-grams, divided by the speed without.

`make bench-speculation` writes docs/log/speculation.md and speculation.json.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from bench.page import machine, updated
from bench.speed import LOG
from max_gpt2.config import SIZES
from max_gpt2.generation import Engine, Generation, Request, SamplingParams, open_model
from max_gpt2.generation.logits import History, Sampler
from max_gpt2.generation.speculation import NgramSpeculation
from tools.make_checkpoint import write_checkpoint

SAMPLE = Path(__file__).parent.parent / "docs" / "samples" / "pride.txt"
#: The end of a cumulative rhyme, in which each verse repeats the one before.
RHYME = [
    "the malt that lay in",
    "the rat that ate",
    "the cat that killed",
    "the dog that worried",
    "the cow with the crumpled horn that tossed",
    "the maiden all forlorn that milked",
    "the man all tattered and torn that kissed",
]
PROMPT, NEW = 60, 160
#: Tokens in one pass whose cost is measured.
ROWS = (1, 2, 3, 5, 9)


@dataclass(frozen=True)
class Text:
    """A text to generate: its name and its ids. The first ones are the prompt."""

    name: str
    ids: list[int]


@dataclass(frozen=True)
class Result:
    """The seconds of each run without and with speculation, and the tokens drafted and accepted in one."""

    model: str
    text: str
    plain: list[float]
    speculating: list[float]
    drafted: int
    accepted: int

    @property
    def ratio(self) -> float:
        """The median of the ratios of the runs: how many times faster speculation is."""
        return statistics.median(one / other for one, other in zip(self.plain, self.speculating, strict=True))


def texts(demo: Engine) -> list[Text]:
    """Return a novel's prose, prose that the demo checkpoint writes by itself, and a text that repeats itself."""
    tokenizer, length = demo.tokenizer, PROMPT + NEW
    novel = tokenizer.encode(SAMPLE.read_text())
    greedy = Request(novel[:PROMPT], NEW, SamplingParams(0))
    verses = ["This is the house that Jack built."]
    for number in range(1, len(RHYME) + 1):
        verses.append(f"This is {' '.join(reversed(RHYME[:number]))} the house that Jack built.")
    rhyme = tokenizer.encode("\n".join(verses))
    return [
        Text("prose: a novel", novel[:length]),
        Text("prose: greedy continuation of it by the demo checkpoint", novel[:PROMPT] + demo.generate(greedy).tokens),
        Text("repetitive: This is the house that Jack built", rhyme[:length]),
    ]


@contextmanager
def replayed(text: Text) -> Iterator[None]:
    """Let the sampler choose the next token of a text, as if the model had written it."""

    def ahead(_self: Sampler, _logits: np.ndarray, history: History, calls: int) -> int:
        del calls
        return text.ids[len(history.tokens)]

    with patch.object(Sampler, "ahead", ahead):
        yield


def generate(engine: Engine, text: Text) -> tuple[float, Generation]:
    """Return the seconds after the prompt, and what was generated."""
    found = engine.generate(Request(text.ids[:PROMPT], len(text.ids) - PROMPT, SamplingParams(0)))
    return found.timing.decode_s, found


def compare(model: str, engine: Engine, text: Text, runs: int) -> Result:
    """Generate a text without and with speculation in turn: one warm-up and then `runs` times."""
    speculating = replace(engine, speculation=NgramSpeculation())
    result = Result(model, text.name, [], [], 0, 0)
    for number in range(runs + 1):
        (plain, expected), (other, found) = generate(engine, text), generate(speculating, text)
        assert found.tokens == expected.tokens
        if number:
            result.plain.append(plain)
            result.speculating.append(other)
    result = replace(result, drafted=found.drafts.drafted, accepted=found.drafts.accepted)
    print(f"{model}, {text.name}: {result.ratio:.2f}", flush=True)
    return result


def passes(engine: Engine, runs: int) -> dict[int, float]:
    """Return the time of a pass over some tokens, divided by that over one: medians of the ratios."""
    session, seconds = engine.model.session(1, 512), dict[int, list[float]]()
    session.extend({0: list(range(200))})
    for _ in range(4 * runs + 1):
        for rows in ROWS:
            started = time.perf_counter()
            session.extend({0: list(range(rows))}, None)
            seconds.setdefault(rows, []).append(time.perf_counter() - started)
            session.copy(0, 0, 200)
    return {
        rows: statistics.median(one / first for one, first in zip(found[1:], seconds[1][1:], strict=True))
        for rows, found in seconds.items()
    }


def page(results: Sequence[Result], costs: dict[int, float], runs: int) -> str:
    """Return the measured part of the page."""
    lines = ["| model | text | tokens drafted | accepted | speed, with / without |", "|---|---|---|---|---|"]
    lines += [f"| {one.model} | {one.text} | {one.drafted} | {one.accepted} | {one.ratio:.2f} |" for one in results]
    costs_ = ", ".join(f"{rows} tokens {cost:.2f}" for rows, cost in costs.items() if rows > 1)
    parts = [
        "\n".join(lines),
        f"The time of a pass over several tokens, divided by that over one, size of gpt2:\n{costs_}.",
        f"Measured on {machine()}.",
        f"Medians of {runs} runs of {NEW} tokens after a prompt of {PROMPT}.",
    ]
    return "\n\n".join(parts)


def main() -> None:
    """Run the benchmark and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs: int = parser.parse_args().runs
    demo = open_model("demo").load().engine
    found = texts(demo)
    results = [compare("demo", demo, found[1], runs)]
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(SIZES["gpt2"], Path(folder))
        large = open_model(folder).load().engine
        costs = passes(large, runs)
        for text in found:
            with replayed(text):
                results.append(compare("size of gpt2", large, text, runs))
    (LOG / "speculation.json").write_text(json.dumps(_values(results, costs, runs), indent=1) + "\n")
    path = LOG / "speculation.md"
    path.write_text(updated(path.read_text(), page(results, costs, runs)))


def _values(results: Sequence[Result], costs: dict[int, float], runs: int) -> dict[str, Any]:
    return {
        "measured": machine(),
        "runs": runs,
        "pass_costs": costs,
        "rows": [{**vars(one), "ratio": one.ratio} for one in results],
    }


if __name__ == "__main__":
    main()
