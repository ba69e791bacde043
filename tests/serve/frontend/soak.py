"""Send mixed load while the worker is killed repeatedly: `python -m tests.serve.frontend.soak --minutes 10 --kills 5`.

Every response with status 200 is compared with the response to the same request before the load; all others must be
429 or 503, which clients can retry.
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

from tests.serve.frontend.process_tree import descendants, memory
from tests.serve.frontend.real_server import RealServer, real_server

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
class Results:
    """The number of responses by status, descriptions of unexpected ones, and the seconds to recover from each kill."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    failures: list[str] = field(default_factory=list)
    kills: int = 0
    recovered_s: list[float] = field(default_factory=list)


def choices_of(response: dict[str, Any]) -> list[Any]:
    """Return the parts of the choices that must be identical each time."""
    return [(one["index"], one["text"], one["finish_reason"]) for one in response["choices"]]


def complete(server: RealServer, body: dict[str, Any]) -> tuple[int, Any]:
    """Send a request; return the status, and the choices or the error."""
    response = httpx.post(f"{server.url}/v1/completions", json=body, timeout=120)
    return response.status_code, choices_of(response.json()) if response.status_code == 200 else response.json()


def stream(server: RealServer, body: dict[str, Any]) -> tuple[int, Any]:
    """Send a streaming request; return the status and the choices. A stream that ends with an error counts as 503."""
    texts: collections.defaultdict[int, str] = collections.defaultdict(str)
    reasons: dict[int, str] = {}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body | {"stream": True}, timeout=120) as response:
        if response.status_code != 200:
            return response.status_code, json.loads(response.read())
        for line in response.iter_lines():
            data = line.removeprefix("data: ")
            if data == "[DONE]":
                return 200, [(index, texts[index], reasons[index]) for index in sorted(texts)]
            if not data:
                continue
            event = json.loads(data)
            if "error" in event:
                return 503, event
            for choice in event["choices"]:
                texts[choice["index"]] += choice["text"]
                if choice["finish_reason"]:
                    reasons[choice["index"]] = choice["finish_reason"]
    return 0, "the stream ended without [DONE] and without an error"


def soak(server: RealServer, seconds: float, kills: int, clients: int = 6) -> Results:
    """Send requests for `seconds` seconds, and kill the worker `kills` times meanwhile."""
    bodies = [{"model": "demo", "prompt": prompt} | options for prompt in PROMPTS for options in OPTIONS]
    first = [complete(server, body) for body in bodies]
    assert all(status == 200 for status, _ in first), first
    expected = [choices for _, choices in first]
    results, until = Results(), time.monotonic() + seconds

    def client(number: int) -> None:
        rng = random.Random(number)
        while time.monotonic() < until:
            index = rng.randrange(len(bodies))
            send = rng.choice([complete, stream])
            try:
                status, choices = send(server, bodies[index])
            except httpx.HTTPError as error:
                results.failures.append(f"{bodies[index]}: {type(error).__name__} {error}")
                continue
            results.counts[str(status)] += 1
            if status in RETRY:
                time.sleep(0.5)
            elif status != 200 or choices != expected[index]:
                results.failures.append(
                    f"{send.__name__} {bodies[index]}: {status} {choices}, expected {expected[index]}"
                )

    threads = [threading.Thread(target=client, args=[number]) for number in range(clients)]
    for thread in threads:
        thread.start()
    for number in range(kills):
        time.sleep(max(0.0, until - seconds + (number + 0.5) * seconds / kills - time.monotonic()))
        _kill(server, number, results)
    for thread in threads:
        thread.join()
    return results


def _kill(server: RealServer, number: int, results: Results) -> None:
    """Kill the reaper, MAX's server or the model process, by turns, and wait until the server is ready again."""
    reaper, server_of_max, *others = descendants(server.process.pid)
    before = server.health()["restarts"]
    os.kill([reaper, server_of_max, max(others, key=memory)][number % 3], signal.SIGKILL)
    results.kills += 1
    started = time.monotonic()
    while time.monotonic() - started < 120:
        health = server.health()
        if health["restarts"] > before and health["status"] == "ready":
            results.recovered_s.append(time.monotonic() - started)
            return
        time.sleep(0.1)
    results.failures.append(f"kill {number}: not ready again after 120 s: {server.health()}")


def main() -> None:
    """Run the test and print the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--kills", type=int, default=5)
    options = parser.parse_args()
    with real_server() as server:
        before = memory(server.process.pid)
        results = soak(server, options.minutes * 60, options.kills)
        after = memory(server.process.pid)
        answer = server.complete("It was", max_tokens=5, temperature=0)
        print(f"{options.minutes:g} minutes, {results.kills} kills; responses by status: {dict(results.counts)}")
        print("ready again after " + ", ".join(f"{one:.1f}" for one in results.recovered_s) + " s")
        print(f"memory of all processes: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")
        print(f"response afterwards: {answer['choices'][0]['text']!r}")
        print("\n".join([*results.failures, *server.log[-60:]] if results.failures else ["no failures"]), flush=True)


if __name__ == "__main__":
    main()
