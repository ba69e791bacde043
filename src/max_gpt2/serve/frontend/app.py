"""The ASGI application: OpenAI's paths, and those that keep a server running."""

import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from importlib.metadata import version
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
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
from max_gpt2.serve.frontend.parsing import read_object
from max_gpt2.serve.frontend.request import CompletionRequest, read_chat, read_completion
from max_gpt2.serve.frontend.responses import EventStream, Usage, cancel_on_disconnect
from max_gpt2.serve.frontend.schema import document
from max_gpt2.serve.frontend.worker_client import WorkerClient
from max_gpt2.serve.settings import Limits, ServedModel

logger = logging.getLogger("max_gpt2.serve")
CLIENT_CLOSED = 499


class Frontend:
    """One server: what it serves, its limits, its key, and the state of its worker."""

    def __init__(
        self,
        served: ServedModel,
        limits: Limits,
        health: Health,
        key: str | None = None,
        template: ChatTemplate | None = None,
    ) -> None:
        """Make the application, `app`."""
        self._served, self._limits, self._health = served, limits, health
        self._api_key, self._template = ApiKey(key), template
        self.admission = AdmissionLimiter(limits)
        self.metrics = Metrics(self.admission)
        self.worker_client = WorkerClient(health)
        self.draining = False
        self._fan_out = FanOut(self.worker_client, self.admission, served)
        self.app = Starlette(
            routes=[
                Route("/v1/completions", self._answered(self._completions), methods=["POST"]),
                Route("/v1/chat/completions", self._answered(self._chat), methods=["POST"]),
                Route("/v1/models", self._answered(self._models), methods=["GET"]),
                Route("/v1/models/{name:path}", self._answered(self._model), methods=["GET"]),
                Route("/health", self._answered(self._healthy), methods=["GET"]),
                Route("/version", self._answered(self._version), methods=["GET"]),
                Route("/metrics", self._answered(self._counted), methods=["GET"]),
                Route("/openapi.json", self._answered(self._openapi), methods=["GET"]),
            ],
            exception_handlers={HTTPException: self._no_route},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncGenerator[None, None]:
        del app
        yield
        await self.worker_client.client.aclose()

    def _answered(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Check the key, turn whatever is raised into an answer, and count it."""

        async def endpoint(request: Request) -> Response:
            path, started = request.scope["route"].path, time.perf_counter()
            try:
                self._api_key.check(request)
                response = await handler(request)
            except RefusedError as refused:
                response = refused.response()
            except ClientDisconnect:
                self.metrics.client_disconnects.inc()
                response = Response(status_code=CLIENT_CLOSED)
            except Exception:
                logger.exception("An error that max-gpt2 did not foresee, in %s", path)
                message = "An error that max-gpt2 did not foresee. The server's log has it; report it."
                response = RefusedError(500, message).response()
            if not isinstance(response, EventStream):
                self._count(path, response.status_code, time.perf_counter() - started)
            return response

        return endpoint

    async def _completions(self, request: Request) -> Response:
        given = await read_object(request, self._limits)
        return await self._carry_out(request, read_completion(given, self._served, self._limits))

    async def _chat(self, request: Request) -> Response:
        given = await read_object(request, self._limits)
        return await self._carry_out(request, read_chat(given, self._served, self._limits, self._template))

    async def _carry_out(self, request: Request, asked: CompletionRequest) -> Response:
        """Return the completion, complete or as a stream."""
        if self.draining:
            message = "The server is being stopped. Send the request to another one, or again later."
            raise RefusedError(503, message, code="stopping", headers={"Connection": "close"})
        if refusal := self._health.refusal():
            raise refusal
        path, started = request.scope["route"].path, time.perf_counter()
        if asked.stream:
            stream = self._events(asked, path, started)
            # Whatever goes wrong before the first text is still an answer with a status of its own.
            first = await cancel_on_disconnect(request, anext(stream))
            return EventStream(_chained(first, stream))
        usage = Usage(asked.prompt_tokens)
        with self.admission.request():
            choices = await cancel_on_disconnect(request, self._fan_out.choices(asked.jobs))
        for choice in choices:
            usage.written(choice.count)
        best = [asked.answer.whole(place, one.output, job) for place, (job, one) in enumerate(asked.best(choices))]
        self._log(path, 200, started, usage, asked.user)
        return JSONResponse(asked.answer.head() | {"choices": best, "usage": usage.to_json()})

    async def _events(self, asked: CompletionRequest, path: str, started: float) -> AsyncGenerator[bytes, None]:
        """Yield the events of a stream; one that breaks off says so, and ends without [DONE]."""
        usage, answer, begun, status = Usage(asked.prompt_tokens), asked.answer, False, CLIENT_CLOSED
        head = answer.head(chunk=True) | ({"usage": None} if asked.include_usage else {})
        try:
            with self.admission.request():
                async with aclosing(self._fan_out.merged(asked.jobs, usage.written)) as parts:
                    async for index, delta in parts:
                        if not begun:
                            self.metrics.time_to_first_token.observe(time.perf_counter() - started)
                            if answer.kind == "chat":
                                for place in range(len(asked.jobs)):
                                    yield _event(head | {"choices": [answer.first(place)]})
                        begun = True
                        if delta.text or delta.tokens or delta.finish:
                            yield _event(head | {"choices": [answer.chunk(index, delta, asked.jobs[index])]})
            if asked.include_usage:
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
                self._log(path, status, started, usage, asked.user)

    async def _models(self, request: Request) -> Response:
        del request
        return JSONResponse({"object": "list", "data": [self._card()]})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name != self._served.name:
            message = f"The model {name[:100]!r} is not served here. Ask /v1/models."
            raise RefusedError(404, message, "model", "model_not_found")
        return JSONResponse(self._card())

    def _card(self) -> dict[str, Any]:
        served = self._served
        card = {"id": served.name, "object": "model", "created": served.created, "owned_by": "max-gpt2"}
        return card | {"max_model_len": served.config.n_positions}

    async def _healthy(self, request: Request) -> Response:
        del request
        good = self._health.state == "ready" and not self.draining
        says = self._health.to_json() | ({"status": "stopping"} if self.draining else {})
        return JSONResponse(says, 200 if good else 503)

    async def _version(self, request: Request) -> Response:
        del request
        return JSONResponse({"version": __version__, "max": version("max")})

    async def _counted(self, request: Request) -> Response:
        del request
        self.metrics.ready.set(self._health.state == "ready")
        page = self.metrics.page()
        if self._health.metrics_url and self._health.state == "ready":
            try:
                worker = await self.worker_client.client.get(self._health.metrics_url, timeout=5, follow_redirects=True)
                page += worker.content if worker.status_code == 200 else b""
            except httpx.HTTPError:
                logger.warning("The worker's metrics cannot be read")
        return Response(page, media_type=CONTENT_TYPE)

    async def _openapi(self, request: Request) -> Response:
        del request
        return JSONResponse(document(self._served))

    async def _no_route(self, request: Request, error: Exception) -> Response:
        """Answer for an unknown path, or a method that a path does not have."""
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        try:
            self._api_key.check(request)
        except RefusedError as refused:
            return refused.response()
        if error.status_code == 405:
            message = f"{request.method[:20]} is not possible here. Use {headers.get('Allow', 'another method')}."
        else:
            message = "There is no such path. /openapi.json has those that there are."
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


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def _chained(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        yield first
        async for one in rest:
            yield one
