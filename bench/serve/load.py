"""Load generators: closed (a fixed number of clients) and open (requests at random times)."""

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
    """The shape of a request: prompt length, new tokens, and length of the prefix that all prompts share.

    Prompts use ids below 256, which every vocabulary has.
    """

    prompt: int
    new: int
    shared: int = 0


@dataclass(frozen=True)
class Load:
    """The answers of a server to a load, and the total seconds."""

    answers: list[Answer]
    seconds: float

    @property
    def throughput(self) -> float:
        """Return the tokens per second over all sequences."""
        return sum(answer.tokens for answer in self.answers) / self.seconds

    def quantile(self, values: list[float], fraction: float) -> float:
        """Return the quantile of the values at `fraction`."""
        return sorted(values)[min(len(values) - 1, int(fraction * len(values)))] if values else float("nan")

    @property
    def middle(self) -> float:
        """Return the median seconds to a complete answer."""
        return median(answer.whole for answer in self.answers)


def bodies(model: str, shape: Shape, seed: int) -> Iterator[dict[str, Any]]:
    """Yield request bodies, each with a new random prompt."""
    rng = random.Random(seed)
    start = [rng.randrange(256) for _ in range(shape.shared)]
    while True:
        prompt = start + [rng.randrange(256) for _ in range(shape.prompt - shape.shared)]
        yield {"model": model, "prompt": prompt, "max_tokens": shape.new, "temperature": 0, "ignore_eos": True}


async def closed(port: int, model: str, shape: Shape, clients: int, requests: int, seed: int = 0) -> Load:
    """Run `clients` clients that send one request after another, without streaming."""
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
    """Send streaming requests as a Poisson process of `rate` per second, whether or not the server keeps up."""
    rng, waiting = random.Random(seed), bodies(model, shape, seed)
    running: list[asyncio.Task[Answer]] = []
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        running.append(asyncio.create_task(complete(port, next(waiting), stream=True)))
        await asyncio.sleep(rng.expovariate(rate))
    answers = await asyncio.gather(*running)
    return Load(list(answers), time.perf_counter() - started)
