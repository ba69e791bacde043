"""Send invalid and malicious requests to a server: `python -m tests.serve.frontend.hostile`.

Starts `max-gpt2 serve` and prints the number of responses by status, and the memory before and after.
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

from tests.serve.frontend.process_tree import memory
from tests.serve.frontend.real_server import RealServer, real_server

VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 7, 10**6, 2**31, 2**63, -(2**63), 10**40, 0.5, -0.0, 1e308, "", "a", "\x00", "é🙂",
    "\ud800", "a" * 5000, "5", [], [[]], [None], ["a", 1], [[1], "a"], [0], [-1], [50256], [10**9], [[0]] * 20,
    ["\udfff"], [[[1]]], {}, {"a": {}}, {"": ""}, {"5": 1e9}, [{"role": "user", "content": "\x00"}], [1] * 300,
]  # fmt: skip
NAMES = [
    "model", "prompt", "suffix", "max_tokens", "temperature", "top_p", "top_k", "min_p", "n", "best_of", "stream",
    "stream_options", "logprobs", "echo", "stop", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "stop_ids", "logit_bias", "seed", "user", "ignore_eos", "messages", "tools", "functions", "response_format",
    "__proto__", "",
]  # fmt: skip
PATHS = ["/v1/completions", "/v1/chat/completions", "/v1/models", "/health", "/v1/embeddings", "/%00", "/../etc/passwd"]
EXPECTED = {400, 401, 404, 405, 408, 413, 415, 429, 200}


@dataclass
class Results:
    """The number of responses by status, and a description of each unexpected one."""

    statuses: collections.Counter[str] = field(default_factory=collections.Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, request: str, response: httpx.Response) -> None:
        """Count a response; every status except for 200 needs an error message."""
        self.statuses[str(response.status_code)] += 1
        if response.status_code not in EXPECTED:
            self.failures.append(f"{request}: {response.status_code} {response.text[:300]}")
        elif response.status_code != 200 and not response.json()["error"]["message"]:
            self.failures.append(f"{request}: no message")


def random_fields(rng: random.Random) -> dict[str, Any]:
    """Return a request with some fields replaced by unusual values."""
    given: dict[str, Any] = {"model": "demo", "prompt": "It was", "max_tokens": 2}
    for _ in range(rng.choice([1, 1, 2, 5])):
        given[rng.choice(NAMES)] = rng.choice(VALUES)
    return given


def unusual_fields(server: RealServer, rng: random.Random, results: Results) -> None:
    """Send JSON with unusual values."""
    given = random_fields(rng)
    path = rng.choice(PATHS[:2])
    body = json.dumps(given).encode()
    response = httpx.post(server.url + path, content=body, headers={"Content-Type": "application/json"}, timeout=120)
    results.add(f"{path} {body[:300]!r}", response)


def corrupt_bodies(server: RealServer, rng: random.Random, results: Results) -> None:
    """Send JSON with random bytes changed, sometimes truncated or with another content type."""
    body = bytearray(json.dumps(random_fields(rng)).encode())
    for _ in range(rng.randrange(1, 6)):
        body[rng.randrange(len(body))] = rng.randrange(256)
    body = body[: rng.randrange(len(body) + 1)] if rng.random() < 0.3 else body
    kind = rng.choice(["application/json", "application/json", "text/plain", "multipart/form-data; boundary=x", ""])
    response = httpx.post(server.url + PATHS[0], content=bytes(body), headers={"Content-Type": kind}, timeout=120)
    results.add(f"{kind} {bytes(body)[:300]!r}", response)


def unknown_methods(server: RealServer, rng: random.Random, results: Results) -> None:
    """Use unsupported methods and unknown paths."""
    method = rng.choice(["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
    path = rng.choice(PATHS)
    results.add(f"{method} {path}", httpx.request(method, server.url + path, timeout=30))


def large_bodies(server: RealServer, rng: random.Random, results: Results) -> None:
    """Send bodies around and above the maximum size."""
    size = rng.choice([100_000, 1_000_000, 5_000_000])
    body = json.dumps({"model": "demo", "prompt": rng.choice(["a", "é", "a "]) * (size // 2)}).encode()
    response = httpx.post(
        server.url + PATHS[0], content=body, headers={"Content-Type": "application/json"}, timeout=120
    )
    results.add(f"{size} bytes", response)


def costly_bodies(server: RealServer, rng: random.Random, results: Results) -> None:
    """Send bodies of a megabyte that are expensive to parse, while /health must answer within seconds."""
    names = ",".join(f'"{index}":0' for index in range(90_000))
    body = rng.choice(
        [
            f'{{{names},"z":0,"z":0}}',
            f'{{"model":"demo","logit_bias":{{{names},"z":0,"z":0}}}}',
            '{"model":"demo","prompt":[' + ",".join(["[]"] * 300_000) + "]}",
            '{"model":"demo","prompt":[' + ",".join(["5.0"] * 250_000) + "]}",
            '{"model":"demo","prompt":' + "[" * 1_000_000,
            json.dumps({"model": "demo", "prompt": "It was", "max_tokens": 9, "stop": [" " * 60_000] * 16}),
            json.dumps({"model": "demo", "prompt": ["a b " * 50] * 2000, "max_tokens": 0}),
            json.dumps({"model": "demo", "messages": [{"role": "user", "content": [0] * 300_000}]}),
        ]
    )
    path, health = rng.choice(PATHS[:2]), server.url + "/health"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        headers = {"Content-Type": "application/json"}
        sent = pool.submit(httpx.post, server.url + path, content=body.encode(), headers=headers, timeout=120)
        started = time.monotonic()
        httpx.get(health, timeout=30)
        if (seconds := time.monotonic() - started) > 5:
            results.failures.append(f"/health took {seconds:.1f} s during {body[:80]}")
        results.add(f"{path} {body[:80]}", sent.result())


def half_open(server: RealServer, rng: random.Random, results: Results) -> None:
    """Open a connection, send part of a request or nothing, and close it, sometimes with a reset."""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    data = rng.choice(
        [
            b"",
            b"GET",
            head,
            head + b"Content-Length: 999\r\n\r\n{",
            head + b"Content-Length: -1\r\n\r\n{}",
            head + b"Transfer-Encoding: chunked\r\n\r\nzzz\r\n",
            head + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /health HTTP/1.1\r\n",
            b"GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /hea",
            b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{",
            head + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            b"GET /health HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 70_000,
            rng.randbytes(200),
        ]
    )
    with socket.create_connection((server.host, server.port), timeout=5) as connection:
        connection.sendall(data)
        if rng.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        elif rng.random() < 0.3:
            time.sleep(0.2)
    results.statuses["disconnected"] += 1


def slow_reader(server: RealServer, rng: random.Random, results: Results) -> None:
    """Request a long stream, read a little of it, and disconnect."""
    body = {"model": "demo", "prompt": "It was", "stream": True, "max_tokens": 200, "n": rng.choice([1, 4])}
    with httpx.stream("POST", server.url + PATHS[0], json=body, timeout=120) as response:
        for count, _ in enumerate(response.iter_raw(64)):
            if count > 3:
                break
            time.sleep(0.02)
    results.statuses["disconnected"] += 1


#: The kinds of requests with their weights.
KINDS: list[tuple[Callable[[RealServer, random.Random, Results], None], int]] = [
    (unusual_fields, 50),
    (corrupt_bodies, 20),
    (unknown_methods, 10),
    (half_open, 14),
    (large_bodies, 3),
    (costly_bodies, 2),
    (slow_reader, 3),
]


def attack(server: RealServer, requests: int, seed: int) -> Results:
    """Send `requests` random requests, eight at a time."""
    results = Results()
    kinds, weights = [kind for kind, _ in KINDS], [weight for _, weight in KINDS]

    def send(number: int) -> None:
        rng = random.Random(seed * 1_000_003 + number)
        kind = rng.choices(kinds, weights)[0]
        try:
            kind(server, rng, results)
        except (httpx.HTTPError, OSError) as error:
            results.failures.append(f"{kind.__name__} {number}: {type(error).__name__} {error}")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(requests)))
    return results


def main() -> None:
    """Run the test and print the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    with real_server() as server:
        attack(server, 200, options.seed + 1)  # a warm-up, for memory that is allocated once
        before, started = memory(server.process.pid), time.monotonic()
        results = attack(server, options.requests, options.seed)
        seconds = time.monotonic() - started
        answer = server.complete("It was", max_tokens=5, temperature=0)
        after = memory(server.process.pid)
        restarts = server.health()["restarts"]
        print(f"seed {options.seed}, {options.requests} requests in {seconds:.0f} s: {dict(results.statuses)}")
        print(f"memory of all processes: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")
        print(f"response afterwards: {answer['choices'][0]['text']!r}; restarts: {restarts}")
        print("\n".join([*results.failures, *server.log[-40:]] if results.failures else ["no failures"]), flush=True)


if __name__ == "__main__":
    main()
