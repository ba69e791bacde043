"""Requests that nobody should send, against a server that should not mind: `python -m tests.serve.frontend.hostile`.

Starts `max-gpt2 serve` itself, and prints what was answered, and the memory before and after.
"""

import argparse
import collections
import concurrent.futures
import json
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.serve.frontend.real import RealServer, real_server
from tests.serve.frontend.tree import memory

STRANGE: list[Any] = [
    None, True, False, 0, -1, 1, 7, 10**6, 2**31, 2**63, -(2**63), 10**40, 0.5, -0.0, 1e308, "", "a", "\x00", "é🙂",
    "\ud800", "a" * 5000, "5", [], [[]], [None], ["a", 1], [[1], "a"], [0], [-1], [50256], [10**9], [[0]] * 20,
    ["\udfff"], [[[1]]], {}, {"a": {}}, {"": ""}, {"5": 1e9}, [{"role": "user", "content": "\x00"}], [1] * 300,
]  # fmt: skip
NAMES = [
    "model", "prompt", "suffix", "max_tokens", "temperature", "top_p", "top_k", "min_p", "n", "best_of", "stream",
    "stream_options", "logprobs", "echo", "stop", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "logit_bias", "seed", "user", "ignore_eos", "messages", "tools", "functions", "response_format", "__proto__", "",
]  # fmt: skip
PATHS = ["/v1/completions", "/v1/chat/completions", "/v1/models", "/health", "/v1/embeddings", "/%00", "/../etc/passwd"]
GOOD = {400, 401, 404, 405, 408, 413, 415, 429, 200}


@dataclass
class Found:
    """What came of it: answers by status, and whatever should not have been."""

    statuses: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)

    def answer(self, what: str, answer: httpx.Response) -> None:
        """Count an answer; only a 200 may be without an error that says something."""
        self.statuses[str(answer.status_code)] += 1
        if answer.status_code not in GOOD:
            self.wrong.append(f"{what}: {answer.status_code} {answer.text[:300]}")
        elif answer.status_code != 200 and not answer.json()["error"]["message"]:
            self.wrong.append(f"{what}: no message")


def fields(dice: random.Random) -> dict[str, Any]:
    """Return a request with some strange values; now and then nothing but strange."""
    given: dict[str, Any] = {"model": "demo", "prompt": "It was", "max_tokens": 2}
    for _ in range(dice.choice([1, 1, 2, 5])):
        given[dice.choice(NAMES)] = dice.choice(STRANGE)
    return given


def strange_fields(server: RealServer, dice: random.Random, found: Found) -> None:
    """Send JSON with strange values."""
    given = fields(dice)
    path = dice.choice(PATHS[:2])
    body = json.dumps(given).encode()
    answer = httpx.post(server.url + path, content=body, headers={"Content-Type": "application/json"}, timeout=120)
    found.answer(f"{path} {body[:300]!r}", answer)


def strange_bodies(server: RealServer, dice: random.Random, found: Found) -> None:
    """Send what is almost JSON, or not at all."""
    body = bytearray(json.dumps(fields(dice)).encode())
    for _ in range(dice.randrange(1, 6)):
        body[dice.randrange(len(body))] = dice.randrange(256)
    body = body[: dice.randrange(len(body) + 1)] if dice.random() < 0.3 else body
    kind = dice.choice(["application/json", "application/json", "text/plain", "multipart/form-data; boundary=x", ""])
    answer = httpx.post(server.url + PATHS[0], content=bytes(body), headers={"Content-Type": kind}, timeout=120)
    found.answer(f"{kind} {bytes(body)[:300]!r}", answer)


def strange_methods(server: RealServer, dice: random.Random, found: Found) -> None:
    """Use methods and paths that there are not."""
    method = dice.choice(["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
    path = dice.choice(PATHS)
    found.answer(f"{method} {path}", httpx.request(method, server.url + path, timeout=30))


def large_bodies(server: RealServer, dice: random.Random, found: Found) -> None:
    """Send more than is taken."""
    size = dice.choice([100_000, 1_000_000, 5_000_000])
    body = json.dumps({"model": "demo", "prompt": dice.choice(["a", "é", "a "]) * (size // 2)}).encode()
    answer = httpx.post(server.url + PATHS[0], content=body, headers={"Content-Type": "application/json"}, timeout=120)
    found.answer(f"{size} bytes", answer)


def half_open(server: RealServer, dice: random.Random, found: Found) -> None:
    """Open a connection, say something or nothing, and leave, or break it off hard."""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    says = dice.choice(
        [
            b"",
            b"GET",
            head,
            head + b"Content-Length: 999\r\n\r\n{",
            head + b"Content-Length: -1\r\n\r\n{}",
            head + b"Transfer-Encoding: chunked\r\n\r\nzzz\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            b"GET /health HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 70_000,
            dice.randbytes(200),
        ]
    )
    with socket.create_connection((server.host, server.port), timeout=5) as connection:
        connection.sendall(says)
        if dice.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        elif dice.random() < 0.3:
            time.sleep(0.2)
    found.statuses["left"] += 1


def slow_reader(server: RealServer, dice: random.Random, found: Found) -> None:
    """Ask for a long stream, read a little of it, and leave."""
    body = {"model": "demo", "prompt": "It was", "stream": True, "max_tokens": 200, "n": dice.choice([1, 4])}
    with httpx.stream("POST", server.url + PATHS[0], json=body, timeout=120) as answer:
        for count, _ in enumerate(answer.iter_raw(64)):
            if count > 3:
                break
            time.sleep(0.02)
    found.statuses["left"] += 1


KINDS: list[tuple[Callable[[RealServer, random.Random, Found], None], int]] = [
    (strange_fields, 50),
    (strange_bodies, 20),
    (strange_methods, 10),
    (half_open, 14),
    (large_bodies, 3),
    (slow_reader, 3),
]


def attack(server: RealServer, requests: int, seed: int) -> Found:
    """Send so many requests, eight at a time."""
    found = Found()
    kinds, weights = [kind for kind, _ in KINDS], [weight for _, weight in KINDS]

    def one(number: int) -> None:
        dice = random.Random(seed * 1_000_003 + number)
        kind = dice.choices(kinds, weights)[0]
        try:
            kind(server, dice, found)
        except (httpx.HTTPError, OSError) as error:
            found.wrong.append(f"{kind.__name__} {number}: {type(error).__name__} {error}")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(requests)))
    return found


def main() -> None:
    """Run it, and print what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    with real_server() as server:
        attack(server, 200, options.seed + 1)  # what is allocated once is allocated now
        before, started = memory(server.process.pid), time.monotonic()
        found = attack(server, options.requests, options.seed)
        seconds = time.monotonic() - started
        answer = server.complete("It was", max_tokens=5, temperature=0)
        after = memory(server.process.pid)
        restarts = server.health()["restarts"]
        print(f"seed {options.seed}, {options.requests} requests in {seconds:.0f} s: {dict(found.statuses)}")
        print(f"memory of all processes: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")
        print(f"afterwards it answers: {answer['choices'][0]['text']!r}; restarts: {restarts}")
        print("\n".join(["nothing wrong"] if not found.wrong else [*found.wrong, *server.log[-40:]]), flush=True)


if __name__ == "__main__":
    main()
