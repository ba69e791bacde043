"""A worker with the API of MAX's server and a model that counts: the next token of an id is that id plus one.

The first id of a prompt may be a command (see the constants): hang, die, or generate slowly, for example.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

# Ids of the tiny checkpoint's vocabulary for which its tokenizer has no tokens.
HANG, DIE, SLOW, BREAK, REFUSE, GARBAGE, DIE_LATER, FAIL = range(301, 309)
VOCAB, EOS = 300, 299


class FakeWorker:
    """Records the requests in `seen` and counts the running and the cancelled ones."""

    def __init__(self, vocab: int = VOCAB, eos: int = EOS, pause_s: float = 0.0) -> None:
        self.vocab, self.eos, self.pause_s = vocab, eos, pause_s
        self.seen: list[dict[str, Any]] = []
        self.running = 0
        self.most_running = 0
        self.cancelled = 0
        self.app = Starlette(
            routes=[
                Route("/health", lambda _: Response()),
                Route("/v1/models", lambda _: JSONResponse({"object": "list", "data": [{"id": "worker-model"}]})),
                Route("/metrics", lambda _: PlainTextResponse("maxserve_batch_size 1\n")),
                Route("/v1/completions", self.completions, methods=["POST"]),
                Route("/seen", lambda _: JSONResponse({"seen": self.seen, "cancelled": self.cancelled})),
            ]
        )

    async def completions(self, request: Request) -> Response:
        given = await request.json()
        self.seen.append(given)
        prompt: list[int] = given["prompt"]
        command = prompt[0]
        if command == DIE:
            os.kill(os.getpid(), signal.SIGKILL)
        if command == REFUSE:
            return JSONResponse({"error": {"message": "no such thing", "code": "400", "param": "", "type": "x"}}, 400)
        if command == FAIL:
            return JSONResponse({"error": {"message": "Internal server error."}}, 500)
        if command == GARBAGE:
            return PlainTextResponse("<html>")
        steps = self.steps(given, prompt, command)
        if given["stream"]:
            return StreamingResponse(self.events(steps), media_type="text/event-stream")
        watch = asyncio.create_task(self.wait_for_disconnect(request))
        work = asyncio.create_task(self.collect(steps))
        await asyncio.wait([watch, work], return_when=asyncio.FIRST_COMPLETED)
        watch.cancel()
        if not work.done():
            work.cancel()
            return Response(status_code=499)
        return JSONResponse(work.result())

    async def wait_for_disconnect(self, request: Request) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    async def steps(self, given: dict[str, Any], prompt: list[int], command: int) -> AsyncIterator[dict[str, Any]]:
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        complete = False
        try:
            last, has_logprobs = prompt[-1], bool(given.get("logprobs"))
            for step in range(given["max_tokens"]):
                await asyncio.sleep(0.05 if command == SLOW else self.pause_s)
                if command == HANG:
                    await asyncio.sleep(3600)
                if command == BREAK and step == 2:
                    raise ConnectionResetError
                if command == DIE_LATER and step == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                last = (last + 1 + given["seed"] % 2 * (given["temperature"] > 0)) % self.vocab
                ended = last == self.eos and not given["ignore_eos"]
                done = step + 1 == given["max_tokens"]
                finish = "stop" if ended else "length" if done else None
                values: list[float] = []
                tops: list[dict[str, float]] = []
                if has_logprobs:
                    scored = [*prompt[1:], last] if step == 0 and given.get("echo") else [last]
                    values = [self.logprob(id_) for id_ in scored]
                    tops = [{f"t{id_}": value, "other": value - 1} for id_, value in zip(scored, values, strict=True)]
                yield {
                    "choices": [
                        {
                            "index": 0,
                            "text": "?",
                            "token_ids": [last],
                            "finish_reason": finish,
                            "logprobs": {"token_logprobs": values, "top_logprobs": tops},
                        }
                    ]
                }
                if ended:
                    break
            complete = True
        finally:
            self.running -= 1
            self.cancelled += not complete

    @staticmethod
    def logprob(id_: int) -> float:
        return -0.25 - id_ / 1000

    async def events(self, steps: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
        async for step in steps:
            yield f"data: {json.dumps(step)}\n"
        yield "data: [DONE]\n"

    async def collect(self, steps: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
        choice: dict[str, Any] = {"token_ids": [], "logprobs": {"token_logprobs": [], "top_logprobs": []}}
        async for step in steps:
            (one,) = step["choices"]
            choice["token_ids"] += one["token_ids"]
            for name in ("token_logprobs", "top_logprobs"):
                choice["logprobs"][name] += one["logprobs"][name]
            choice["finish_reason"] = one["finish_reason"]
        return {"choices": [choice]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--vocab", type=int, default=VOCAB)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--start-s", type=float, default=0.0)
    parser.add_argument("--fail", help="fail with this message and exit code 3")
    parser.add_argument("--ignore-sigterm", action="store_true", help="do not exit on SIGTERM")
    parser.add_argument(
        "--child", action="store_true", help="start a child process in its own group that ignores SIGTERM"
    )
    options = parser.parse_args()
    if options.fail:
        print(f"Traceback\nValueError: {options.fail}", file=sys.stderr)
        sys.exit(3)
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.child and os.fork() == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)
    time.sleep(options.start_s)
    app = FakeWorker(options.vocab, pause_s=options.pause).app
    server = uvicorn.Server(uvicorn.Config(app, port=options.port, log_level="info", lifespan="off"))
    if options.ignore_sigterm:
        asyncio.run(server._serve())
    else:
        server.run()


if __name__ == "__main__":
    main()
