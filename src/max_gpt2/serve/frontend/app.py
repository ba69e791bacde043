"""The ASGI application: OpenAI's endpoints, and those for operating the server."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from importlib.metadata import version
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from max_gpt2 import __version__
from max_gpt2.serve.frontend.admission import AdmissionLimiter, ApiKey
from max_gpt2.serve.frontend.chat import ChatTemplate
from max_gpt2.serve.frontend.choices import FanOut
from max_gpt2.serve.frontend.errors import RefusedError
from max_gpt2.serve.frontend.health import Health
from max_gpt2.serve.frontend.metrics import CONTENT_TYPE, Metrics
from max_gpt2.serve.frontend.parsing import parse_object, read_body
from max_gpt2.serve.frontend.protocol import check_framing
from max_gpt2.serve.frontend.request import CompletionRequest, read_chat, read_completion
from max_gpt2.serve.frontend.responses import EventStream, Usage, cancel_on_disconnect
from max_gpt2.serve.frontend.schema import document
from max_gpt2.serve.frontend.worker_client import WorkerClient
from max_gpt2.serve.settings import Limits, ServedModel

logger = logging.getLogger("max_gpt2.serve")
CLIENT_CLOSED = 499
#: Bodies up to this size are parsed on the event loop: that takes a few milliseconds.
_SMALL_BODY = 8 << 10


class Frontend:
    """The HTTP frontend of one server: checks requests, runs them on the worker, and builds the responses."""

    def __init__(
        self,
        served: ServedModel,
        limits: Limits,
        health: Health,
        key: str | None = None,
        template: ChatTemplate | None = None,
        allow_origins: Sequence[str] = (),
    ) -> None:
        """Create the application `app`; without `key`, requests need no API key.

        Browsers let pages from `allow_origins` ("*" for all) read the responses.
        """
        self._served, self._limits, self._health = served, limits, health
        self._api_key, self._template = ApiKey(key), template
        self.admission = AdmissionLimiter(limits)
        self.metrics = Metrics(self.admission)
        self.worker_client = WorkerClient(health)
        self.draining = False
        self._parsers = ThreadPoolExecutor(2, "parser")
        self._renderer = ThreadPoolExecutor(1, "renderer")  # waits for the process of the chat template
        self._fan_out = FanOut(self.worker_client, self.admission, served)
        self.app = Starlette(
            routes=[
                Route("/v1/completions", self._endpoint(self._completions), methods=["POST"]),
                Route("/v1/chat/completions", self._endpoint(self._chat), methods=["POST"]),
                Route("/v1/models", self._endpoint(self._models), methods=["GET"]),
                Route("/v1/models/{name:path}", self._endpoint(self._model), methods=["GET"]),
                Route("/health", self._endpoint(self._get_health), methods=["GET"]),
                Route("/version", self._endpoint(self._version), methods=["GET"]),
                Route("/metrics", self._endpoint(self._get_metrics), methods=["GET"]),
                Route("/openapi.json", self._endpoint(self._openapi), methods=["GET"]),
            ],
            exception_handlers={HTTPException: self._no_route},
            middleware=[_cors(allow_origins)] if allow_origins else [],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncGenerator[None, None]:
        del app
        yield
        await self.worker_client.client.aclose()
        for executor in (self._parsers, self._renderer):
            executor.shutdown(wait=False, cancel_futures=True)
        if self._template:
            self._template.close()

    def _endpoint(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a handler: check the API key, turn exceptions into error responses, and count the request."""

        async def endpoint(request: Request) -> Response:
            path, started = request.scope["route"].path, time.perf_counter()
            try:
                check_framing(request)
                self._api_key.check(request)
                response = await handler(request)
            except RefusedError as refused:
                response = refused.response()
            except ClientDisconnect:
                self.metrics.client_disconnects.inc()
                response = Response(status_code=CLIENT_CLOSED)
            except Exception:
                logger.exception("Internal error in %s", path)
                message = "Internal server error. The server's log has the traceback; please report it."
                response = RefusedError(500, message).response()
            if not isinstance(response, EventStream):
                self._count(path, response.status_code, time.perf_counter() - started)
            return response

        return endpoint

    async def _completions(self, request: Request) -> Response:
        body = await read_body(request, self._limits)
        parsed = await self._parse(body, lambda fields: read_completion(fields, self._served, self._limits))
        return await self._complete(request, parsed)

    async def _chat(self, request: Request) -> Response:
        body = await read_body(request, self._limits)
        parsed = await self._parse(
            body, lambda fields: read_chat(fields, self._served, self._limits, self._template), self._renderer
        )
        return await self._complete(request, parsed)

    async def _parse(
        self,
        body: bytes,
        read: Callable[[dict[str, Any]], CompletionRequest],
        executor: ThreadPoolExecutor | None = None,
    ) -> CompletionRequest:
        """Parse a body and encode its prompts; large ones in a thread, so that other requests do not wait for them."""
        if executor is None and len(body) <= _SMALL_BODY:
            return read(parse_object(body))
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(executor or self._parsers, lambda: read(parse_object(body)))

    async def _complete(self, request: Request, parsed: CompletionRequest) -> Response:
        """Return the complete response, or a stream."""
        if self.draining:
            message = "The server is shutting down. Send the request to another server, or retry later."
            raise RefusedError(503, message, code="stopping", headers={"Connection": "close"})
        if refusal := self._health.refusal():
            raise refusal
        path, started = request.scope["route"].path, time.perf_counter()
        if parsed.stream:
            stream = self._events(parsed, path, started)
            # An error before the first event still gets a response with its own status.
            first = await cancel_on_disconnect(request, anext(stream))
            return EventStream(_chained(first, stream))
        usage = Usage(parsed.prompt_tokens)
        with self.admission.request():
            choices = await cancel_on_disconnect(request, self._fan_out.choices(parsed.jobs))
        for choice in choices:
            usage.add_completion(choice.count)
        builder = parsed.response
        best = [builder.choice(index, one.output, job) for index, (job, one) in enumerate(parsed.best(choices))]
        self._log(path, 200, started, usage, parsed.user)
        return JSONResponse(builder.head() | {"choices": best, "usage": usage.to_json()})

    async def _events(self, parsed: CompletionRequest, path: str, started: float) -> AsyncGenerator[bytes, None]:
        """Yield the events of a stream; a failed stream ends with an error event and without [DONE]."""
        usage, builder, begun, status = Usage(parsed.prompt_tokens), parsed.response, False, CLIENT_CLOSED
        head = builder.head(chunk=True) | ({"usage": None} if parsed.include_usage else {})
        try:
            with self.admission.request():
                async with aclosing(self._fan_out.merged(parsed.jobs, usage.add_completion)) as deltas:
                    async for index, delta in deltas:
                        if not begun:
                            self.metrics.time_to_first_token.observe(time.perf_counter() - started)
                            if builder.kind == "chat":
                                for choice in range(len(parsed.jobs)):
                                    yield _event(head | {"choices": [builder.first_chunk(choice)]})
                        begun = True
                        if delta.text or delta.tokens or delta.finish:
                            yield _event(head | {"choices": [builder.chunk(index, delta, parsed.jobs[index])]})
            if parsed.include_usage:
                yield _event(head | {"choices": [], "usage": usage.to_json()})
            status = 200
            yield b"data: [DONE]\n\n"
        except RefusedError as refused:
            status = refused.status
            if not begun:
                raise
            yield _event(refused.body())
        finally:
            if begun:
                if status == CLIENT_CLOSED:
                    self.metrics.client_disconnects.inc()
                self._count(path, status, time.perf_counter() - started)
                self._log(path, status, started, usage, parsed.user)

    async def _models(self, request: Request) -> Response:
        del request
        return JSONResponse({"object": "list", "data": [self._card()]})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name != self._served.name:
            message = f"The model {name[:100]!r} is not served here. Use {self._served.name!r}."
            raise RefusedError(404, message, "model", "model_not_found")
        return JSONResponse(self._card())

    def _card(self) -> dict[str, Any]:
        served = self._served
        card = {"id": served.name, "object": "model", "created": served.created, "owned_by": "max-gpt2"}
        return card | {"max_model_len": served.config.n_positions}

    async def _get_health(self, request: Request) -> Response:
        del request
        ready = self._health.state == "ready" and not self.draining
        body = self._health.to_json() | ({"status": "stopping"} if self.draining else {})
        return JSONResponse(body, 200 if ready else 503)

    async def _version(self, request: Request) -> Response:
        del request
        return JSONResponse({"version": __version__, "max": version("max")})

    async def _get_metrics(self, request: Request) -> Response:
        del request
        self.metrics.ready.set(self._health.state == "ready")
        page = self.metrics.page()
        if self._health.metrics_url and self._health.state == "ready":
            try:
                worker = await self.worker_client.client.get(self._health.metrics_url, timeout=5, follow_redirects=True)
                page += worker.content if worker.status_code == 200 else b""
            except httpx.HTTPError:
                logger.warning("Could not read the worker's metrics")
        return Response(page, media_type=CONTENT_TYPE)

    async def _openapi(self, request: Request) -> Response:
        del request
        return JSONResponse(document(self._served))

    async def _no_route(self, request: Request, error: Exception) -> Response:
        """Return the 404 for an unknown path, or the 405 for a method that a path does not support."""
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        try:
            check_framing(request)
            self._api_key.check(request)
        except RefusedError as refused:
            return refused.response()
        if error.status_code == 405:
            message = f"This path does not support {request.method[:20]}. Use {headers.get('Allow', 'another method')}."
        else:
            message = "This path does not exist. GET /openapi.json lists the paths of the server."
        self._count("other", error.status_code, 0.0)
        return RefusedError(error.status_code, message, headers=headers).response()

    def _count(self, path: str, status: int, seconds: float) -> None:
        self.metrics.requests.labels(path, str(status)).inc()
        self.metrics.seconds.labels(path).observe(seconds)

    def _log(self, path: str, status: int, started: float, usage: Usage, user: str | None) -> None:
        self.metrics.prompt_tokens.inc(usage.prompt_tokens)
        self.metrics.tokens.inc(usage.completion_tokens)
        by = f" user={user!r}" if user else ""
        seconds = time.perf_counter() - started
        logger.info(
            "%s %d %.2f s %d+%d tokens%s", path, status, seconds, usage.prompt_tokens, usage.completion_tokens, by
        )


def _cors(origins: Sequence[str]) -> Middleware:
    return Middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=["GET", "POST"], allow_headers=["*"])


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def _chained(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        yield first
        async for one in rest:
            yield one
