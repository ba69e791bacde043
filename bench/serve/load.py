"""Load: so many clients, each with the next request when the last is answered, or requests that come at random."""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.serve.client import Answer, complete


@dataclass(frozen=True)
class Shape:
    """What a request looks like: its prompt's length, how many tokens are written, and how many share a prompt's start.

    Every vocabulary that is measured has the ids below 256, so that all servers can be asked for the same.
    """

    prompt: int
    new: int
    shared: int = 0


@dataclass(frozen=True)
class Load:
    """What a server made of some load: its answers, and how many seconds it took."""

    answers: list[Answer]
    seconds: float

    @property
    def throughput(self) -> float:
        """Tokens per second, of all texts together."""
        return sum(answer.tokens for answer in self.answers) / self.seconds

    def quantile(self, values: list[float], part: float) -> float:
        """Return a value that `part` of them do not exceed."""
        return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else float("nan")

    @property
    def middle(self) -> float:
        """The median of the seconds to a whole answer."""
        return median(answer.whole for answer in self.answers)


def bodies(model: str, shape: Shape, seed: int) -> Iterator[dict[str, Any]]:
    """Yield requests, each with another prompt."""
    dice = random.Random(seed)
    start = [dice.randrange(256) for _ in range(shape.shared)]
    while True:
        prompt = start + [dice.randrange(256) for _ in range(shape.prompt - shape.shared)]
        yield {"model": model, "prompt": prompt, "max_tokens": shape.new, "temperature": 0, "ignore_eos": True}


async def closed(port: int, model: str, shape: Shape, clients: int, requests: int, seed: int = 0) -> Load:
    """Let some clients send requests one after another, without streaming."""
    waiting = bodies(model, shape, seed)
    left = iter(range(requests))
    answers: list[Answer] = []

    async def client() -> None:
        for _ in left:
            answers.append(await complete(port, next(waiting), stream=False))

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return Load(answers, time.perf_counter() - started)


async def opened(port: int, model: str, shape: Shape, rate: float, seconds: float, seed: int = 0) -> Load:
    """Send requests at random times, `rate` a second on average, whether or not the server keeps up; with streaming."""
    dice, waiting = random.Random(seed), bodies(model, shape, seed)
    running: list[asyncio.Task[Answer]] = []
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        running.append(asyncio.create_task(complete(port, next(waiting), stream=True)))
        await asyncio.sleep(dice.expovariate(rate))
    answers = await asyncio.gather(*running)
    return Load(list(answers), time.perf_counter() - started)
