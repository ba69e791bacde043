"""Mixed load while the worker is killed again and again: `python -m tests.serve.frontend.soak --minutes 10 --kills 5`.

Every answer of status 200 is compared with what the same request got before the load; all others have to be the
429s and 503s that say to come again.
"""

import argparse
import collections
import json
import os
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.serve.frontend.real import RealServer, real_server
from tests.serve.frontend.tree import descendants, memory

PROMPTS: list[Any] = ["It was", "She said that", "Mr. Darcy", [10, 11, 12], "The house " * 20, ["Emma", "Elinor"]]
OPTIONS: list[dict[str, Any]] = [
    {"max_tokens": 40, "temperature": 0},
    {"max_tokens": 24, "seed": 5, "temperature": 0.9},
    {"max_tokens": 24, "seed": 6, "top_p": 0.8, "n": 2},
    {"max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1},
    {"max_tokens": 32, "temperature": 0, "stop": ["\n", "and"]},
    {"max_tokens": 16, "temperature": 0, "repetition_penalty": 1.2, "logprobs": 3},
]
RETRY = {429, 503}


@dataclass
class Soaked:
    """What came of it."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    kills: int = 0
    recovered_s: list[float] = field(default_factory=list)


def choices_of(answer: dict[str, Any]) -> list[Any]:
    """Return what has to be the same each time."""
    return [(one["index"], one["text"], one["finish_reason"]) for one in answer["choices"]]


def whole(server: RealServer, body: dict[str, Any]) -> tuple[int, Any]:
    """Send a request and return its status, and its choices."""
    answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=120)
    return answer.status_code, choices_of(answer.json()) if answer.status_code == 200 else answer.json()


def streamed(server: RealServer, body: dict[str, Any]) -> tuple[int, Any]:
    """Send a request for a stream; one that breaks off with an error has the status 503."""
    texts: collections.defaultdict[int, str] = collections.defaultdict(str)
    ends: dict[int, str] = {}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body | {"stream": True}, timeout=120) as answer:
        if answer.status_code != 200:
            return answer.status_code, json.loads(answer.read())
        for line in answer.iter_lines():
            data = line.removeprefix("data: ")
            if data == "[DONE]":
                return 200, [(index, texts[index], ends[index]) for index in sorted(texts)]
            if not data:
                continue
            event = json.loads(data)
            if "error" in event:
                return 503, event
            for choice in event["choices"]:
                texts[choice["index"]] += choice["text"]
                if choice["finish_reason"]:
                    ends[choice["index"]] = choice["finish_reason"]
    return 0, "the stream ended without [DONE], and without an error"


def soak(server: RealServer, seconds: float, kills: int, clients: int = 6) -> Soaked:
    """Load a server for some time, and kill its worker so many times meanwhile."""
    bodies = [{"model": "demo", "prompt": prompt} | options for prompt in PROMPTS for options in OPTIONS]
    first = [whole(server, body) for body in bodies]
    assert all(status == 200 for status, _ in first), first
    right = [found for _, found in first]
    soaked, until = Soaked(), time.monotonic() + seconds

    def client(number: int) -> None:
        dice = random.Random(number)
        while time.monotonic() < until:
            which = dice.randrange(len(bodies))
            ask = dice.choice([whole, streamed])
            try:
                status, found = ask(server, bodies[which])
            except httpx.HTTPError as error:
                soaked.wrong.append(f"{bodies[which]}: {type(error).__name__} {error}")
                continue
            soaked.counts[str(status)] += 1
            if status in RETRY:
                time.sleep(0.5)
            elif status != 200 or found != right[which]:
                soaked.wrong.append(f"{ask.__name__} {bodies[which]}: {status} {found}, and not {right[which]}")

    threads = [threading.Thread(target=client, args=[number]) for number in range(clients)]
    for thread in threads:
        thread.start()
    for number in range(kills):
        time.sleep(max(0.0, until - seconds + (number + 0.5) * seconds / kills - time.monotonic()))
        _kill(server, number, soaked)
    for thread in threads:
        thread.join()
    return soaked


def _kill(server: RealServer, number: int, soaked: Soaked) -> None:
    """Kill the reaper, MAX's server or the process of the model, in turn, and wait until it can answer again."""
    reaper, server_of_max, *others = descendants(server.process.pid)
    before = server.health()["restarts"]
    os.kill([reaper, server_of_max, max(others, key=memory)][number % 3], signal.SIGKILL)
    soaked.kills += 1
    started = time.monotonic()
    while time.monotonic() - started < 120:
        health = server.health()
        if health["restarts"] > before and health["status"] == "ready":
            soaked.recovered_s.append(time.monotonic() - started)
            return
        time.sleep(0.1)
    soaked.wrong.append(f"kill {number}: not ready again after 120 s: {server.health()}")


def main() -> None:
    """Run it, and print what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--kills", type=int, default=5)
    options = parser.parse_args()
    with real_server() as server:
        before = memory(server.process.pid)
        soaked = soak(server, options.minutes * 60, options.kills)
        after = memory(server.process.pid)
        answer = server.complete("It was", max_tokens=5, temperature=0)
        print(f"{options.minutes:g} minutes, {soaked.kills} kills: {dict(soaked.counts)} answers by status")
        print("ready again after " + ", ".join(f"{one:.1f}" for one in soaked.recovered_s) + " s")
        print(f"memory of all processes: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")
        print(f"afterwards it answers: {answer['choices'][0]['text']!r}")
        print("\n".join(["nothing wrong"] if not soaked.wrong else [*soaked.wrong, *server.log[-60:]]), flush=True)


if __name__ == "__main__":
    main()
