"""Simulate a corpus run on 1,000 workers of which some die: `python -m tools.simulate_corpus`.

The simulation replaces the workers and the clock; the times of its parts are those measured on one machine. It prints
the tables of docs/design/corpus.md and, with --write, puts them there.
"""

import argparse
import heapq
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Literal

import numpy as np

from bench.page import updated
from max_gpt2.batch.corpus.workers import cut

PAGE = Path(__file__).parent.parent / "docs" / "design" / "corpus.md"
#: In place of the lost part, in the event of a worker that is free.
_FREE = -1
#: Runs with other random deaths and speeds; the tables have their means.
_RUNS = 3
Deaths = Literal["none", "once", "hourly"]
#: The fewest and the most tokens of a document; the logarithm of the number is uniformly distributed.
SHORTEST, LONGEST = 50, 3000


@dataclass(frozen=True)
class Setting:
    """What is simulated.

    Attributes:
        documents: Their number.
        part_rows: Documents of a part.
        workers: The number of workers, each with its own cores.
        dynamic: Workers get the next parts (Ray, --workers), or each has its own share (--shard).
        deaths: No worker dies, 1 % of them die once, or each dies with a probability of 1 % in an hour.
        spread: The standard deviation of the speeds of the workers, as a part of their mean.
        tokens_per_s: The mean speed of a worker.
        start_s: Seconds from the start of a process to its first batch, with a compiled model in the cache.
        commit_s: Seconds to claim, flush and rename a part and to write its entry.
        restart_s: Seconds until the scheduler replaces a dead worker.
        seed: The seed of everything random.

    """

    documents: int = 10_000_000
    part_rows: int = 1000
    workers: int = 1000
    dynamic: bool = True
    deaths: Deaths = "none"
    spread: float = 0.0
    tokens_per_s: float = 330.0
    start_s: float = 10.0
    commit_s: float = 0.05
    restart_s: float = 60.0
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a simulated run took.

    Attributes:
        seconds: From the start to the end of the last part.
        ideal: Seconds if all workers computed without interruption until the end.
        repeated: The work that was lost, as a part of the whole.
        died: The number of deaths.

    """

    seconds: float
    ideal: float
    repeated: float
    died: int

    @property
    def efficiency(self) -> float:
        """The ideal time divided by the time."""
        return self.ideal / self.seconds


def part_tokens(setting: Setting) -> np.ndarray:
    """Return the number of tokens of each part: [parts] of float64."""
    rng = np.random.default_rng(setting.seed)
    lengths = np.exp(rng.uniform(math.log(SHORTEST), math.log(LONGEST), setting.documents)).round()
    return np.add.reduceat(lengths, np.arange(0, setting.documents, setting.part_rows))


class Simulation:
    """The discrete events of a run: a worker becomes free, or dies with its part."""

    def __init__(self, setting: Setting, tokens: np.ndarray) -> None:
        """Prepare a run; `tokens` [parts] are those of each part."""
        rng = np.random.default_rng(setting.seed + 1)
        normal = rng.standard_normal(setting.workers)
        self._speeds = setting.tokens_per_s * np.clip(1 + setting.spread * normal, 0.2, None)
        self._ideal = float(tokens.sum() / self._speeds.sum())
        self._setting, self._tokens = setting, tokens
        #: The times at which each worker dies, ascending; at last infinity.
        self.deaths = [_deaths(setting, self._ideal, one) for one in _dying(setting, rng)]
        self._next_death: list[float] = []
        self._queues = _queues(setting, len(tokens))
        #: The parts that each worker has and has not begun.
        self._given = [deque[int]() for _ in range(setting.workers)]
        self._idle: list[int] = []
        #: (time, worker, the part that it loses by dying)
        self._events: list[tuple[float, int, int]] = []
        self._finished, self._repeated, self._died = 0.0, 0.0, 0

    def run(self) -> Outcome:
        """Run all events in order."""
        self._next_death = [next(one) for one in self.deaths]
        for worker in range(self._setting.workers):
            self._free(worker, self._setting.start_s)
        while self._events:
            now, worker, lost = heapq.heappop(self._events)
            if lost >= 0:
                self._die(worker, now, lost)
            elif part := self._next(worker):
                self._begin(worker, now, part[0])
            else:
                self._idle.append(worker)
        assert not any(self._queues)
        repeated = self._repeated / float(self._tokens.sum())
        return Outcome(self._finished, self._ideal, repeated, self._died)

    def _next(self, worker: int) -> list[int]:
        """Return the next part of a worker in a list, which is empty if there is none."""
        queue, given = self._queues[worker % len(self._queues)], self._given[worker]
        if not given and queue:
            given.extend(queue.popleft())
        return [given.popleft()] if given else []

    def _free(self, worker: int, now: float) -> None:
        heapq.heappush(self._events, (now, worker, _FREE))

    def _begin(self, worker: int, now: float, part: int) -> None:
        end = now + self._setting.commit_s + self._tokens[part] / self._speeds[worker]
        while self._next_death[worker] <= now:  # it died while it started or was idle, which costs no work
            self._next_death[worker] = next(self.deaths[worker])
        if (death := self._next_death[worker]) < end:
            self._repeated += (death - now) * self._speeds[worker]
            heapq.heappush(self._events, (death, worker, part))
        else:
            self._finished = max(self._finished, end)
            self._free(worker, end)

    def _die(self, worker: int, now: float, part: int) -> None:
        """Return the parts to their queue, where an idle worker takes them, and replace the worker."""
        self._died += 1
        self._queues[worker % len(self._queues)].appendleft([part, *self._given[worker]])
        self._given[worker].clear()
        if self._setting.dynamic and self._idle:
            self._free(self._idle.pop(), now)
        self._free(worker, now + self._setting.restart_s + self._setting.start_s)


def _queues(setting: Setting, parts: int) -> list[deque[list[int]]]:
    """Return one queue of lists of parts for all workers, or that of each shard."""
    count = setting.workers
    if setting.dynamic:
        return [deque(cut(setting.part_rows, range(parts), count))]
    return [deque([list(range(k * parts // count, (k + 1) * parts // count))]) for k in range(count)]


def _dying(setting: Setting, rng: np.random.Generator) -> Iterator[np.random.Generator | None]:
    """Yield for each worker the random numbers of its deaths; None for one that never dies."""
    if setting.deaths == "none":
        chosen = np.zeros(setting.workers, dtype=bool)
    elif setting.deaths == "once":
        chosen = np.isin(np.arange(setting.workers), rng.permutation(setting.workers)[: setting.workers // 100])
    else:
        chosen = np.ones(setting.workers, dtype=bool)
    yield from (own if dies else None for own, dies in zip(rng.spawn(setting.workers), chosen, strict=True))


def _deaths(setting: Setting, ideal: float, rng: np.random.Generator | None) -> Iterator[float]:
    """Yield the times at which a worker dies, at last infinity."""
    if rng is not None and setting.deaths == "once":
        yield float(rng.uniform(0, ideal))
    elif rng is not None:
        time = 0.0
        while True:
            time += float(rng.exponential(3600 / 0.01))
            yield time
    yield math.inf


def table(setting: Setting) -> str:
    """Return the efficiencies of all combinations of part size, division of the work, and deaths, in Markdown."""
    lines = [
        "| rows of a part | minutes of a part | shards: no deaths | 1 % die once | 1 % die per hour "
        "| claims: no deaths | 1 % die once | 1 % die per hour | repeated work |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    deaths: tuple[Deaths, ...] = ("none", "once", "hourly")
    for part_rows in (100, 1000, 10_000):
        tokens = part_tokens(replace(setting, part_rows=part_rows))
        cells = [f"{part_rows:,}", f"{tokens.mean() / setting.tokens_per_s / 60:.1f}"]
        for dynamic in (False, True):
            for one in deaths:
                own = replace(setting, part_rows=part_rows, dynamic=dynamic, deaths=one)
                found = [Simulation(replace(own, seed=own.seed + run), tokens).run() for run in range(_RUNS)]
                cells.append(f"{100 * mean(run.efficiency for run in found):.1f} %")
        cells.append(f"{100 * mean(run.repeated for run in found):.2f} %")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def report(setting: Setting) -> str:
    """Return both tables, for workers of equal and of different speed, with the setting."""
    ideal = Simulation(setting, part_tokens(setting)).run().ideal
    return "\n\n".join(
        [
            f"{setting.workers:,} workers with {setting.tokens_per_s:.0f} tokens/s, {setting.documents:,} documents: "
            f"ideally {ideal / 3600:.1f} hours.\nA process starts in {setting.start_s:.0f} s, a dead worker is "
            f"replaced after {setting.restart_s:.0f} s, and completing a part takes\n{setting.commit_s:.2f} s.",
            "Workers of equal speed:",
            table(setting),
            "Speeds with a standard deviation of 10 %:",
            table(replace(setting, spread=0.1)),
        ]
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="Update docs/design/corpus.md.")
    arguments = parser.parse_args()
    found = report(Setting(seed=arguments.seed))
    print(found)
    if arguments.write:
        PAGE.write_text(updated(PAGE.read_text(), found, "simulated"))


if __name__ == "__main__":
    main()
