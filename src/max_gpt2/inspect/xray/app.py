"""The server of the page: each address answers a question about a model."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from max_gpt2 import __version__
from max_gpt2._files import json_text
from max_gpt2.errors import MaxGPT2Error, RequestError
from max_gpt2.generation import SamplingParams
from max_gpt2.inspect.xray.analysis import Analysis
from max_gpt2.inspect.xray.page import CONTENT_TYPES, live_page, static_files
from max_gpt2.inspect.xray.state import State, integer

logger = logging.getLogger("max_gpt2.xray")
_MOST_BYTES = 1 << 20
_LARGEST_THUMBNAIL = 256
#: Browsers send these names for this machine. Others would let a page of another site read ours (DNS rebinding).
_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
Answer = Callable[[Analysis, Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Start:
    """The text that the page shows first, or None, and whether it starts with the BOS token."""

    text: str | None = None
    bos: bool = False


def page_info(models: Sequence[Analysis], start: Start, *, file: bool = False) -> dict[str, Any]:
    """Return what the page needs at its start: the models and the first text."""
    return {"models": [one.model() for one in models], **asdict(start), "version": __version__, "file": file}


def make_app(models: Sequence[Analysis], start: Start = Start()) -> Starlette:
    """Return the application for the page of some models."""
    page, policy = live_page()
    info = page_info(models, start)

    async def index(_request: Request) -> Response:
        return HTMLResponse(page, headers={**_HEADERS, "Content-Security-Policy": policy})

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        content = static_files().get(name)
        if content is None:
            return JSONResponse({"error": f"There is no file {name}."}, 404)
        return Response(content, headers={**_HEADERS, "Content-Type": CONTENT_TYPES[name[name.rindex(".") :]]})

    async def about(_request: Request) -> Response:
        return JSONResponse(info, headers=_HEADERS)

    routes = [Route("/", index), Route("/static/{name}", static), Route("/api/page", about)]
    turn = _Turn(models)
    routes += [Route(f"/api/{name}", partial(turn.answer, one), methods=["POST"]) for name, one in ANSWERS.items()]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS)])


class _Turn:
    """Answers one question at a time; MAX uses all cores for each."""

    def __init__(self, models: Sequence[Analysis]) -> None:
        self._models = models
        self._lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "xray")

    async def answer(self, compute: Answer, request: Request) -> Response:
        """Answer a question in JSON with JSON; skip a question whose client has disconnected."""
        try:
            fields = await _fields(request)
            model = self._model(fields)
            async with self._lock:
                if await request.is_disconnected():
                    return Response(status_code=499)
                loop = asyncio.get_running_loop()
                content = await loop.run_in_executor(self._thread, lambda: json_text(compute(model, fields)))
        except MaxGPT2Error as error:
            return JSONResponse({"error": str(error)}, 400, _HEADERS)
        except Exception as error:
            logger.exception("the page asked %s", request.url.path)
            message = f"Internal error ({type(error).__name__}: {error}). Report it as a bug."
            return JSONResponse({"error": message}, 500, _HEADERS)
        return Response(content, headers={**_HEADERS, "Content-Type": "application/json"})

    def _model(self, fields: Mapping[str, Any]) -> Analysis:
        number = integer(fields, "model")
        if not 0 <= number < len(self._models):
            raise RequestError(f"model {number} does not exist: there are the models 0 to {len(self._models) - 1}.")
        return self._models[number]


async def _fields(request: Request) -> Mapping[str, Any]:
    """Return the JSON object of a request; raises RequestError for anything else."""
    # A page of another site cannot send this type without asking first, which we do not allow.
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise RequestError("The body is not JSON. Send it with Content-Type: application/json.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise RequestError(f"The request has more than {_MOST_BYTES} bytes. Send a shorter text.")
    try:
        fields = json.loads(bytes(body))
    except (ValueError, RecursionError) as error:
        raise RequestError("The body is not JSON. Send an object.") from error
    if not isinstance(fields, dict):
        raise RequestError("The body is not a JSON object. Send an object.")
    return fields


def _encode(model: Analysis, fields: Mapping[str, Any]) -> dict[str, Any]:
    text = fields.get("text")
    if not isinstance(text, str):
        raise RequestError("text is not a string. Send the text.")
    return model.encode(text, fields.get("bos") is True)


def _sample(model: Analysis, fields: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: fields[name] for name in ("temperature", "top_k", "top_p", "seed") if fields.get(name) is not None}
    for name, value in given.items():
        if type(value) not in ((int,) if name in ("top_k", "seed") else (int, float)):
            raise RequestError(f"{name} is not a number. Send a number.")
    return model.sample(State.parse(fields), SamplingParams(**{"temperature": 1.0, **given}))


def _lens(model: Analysis, fields: Mapping[str, Any]) -> dict[str, Any]:
    state = State.parse(fields)
    first, count = integer(fields, "first", none=True) or 0, integer(fields, "count", none=True)
    if first < 0 or (count is not None and count < 1):
        raise RequestError("first and count are not a range of positions. Send first >= 0 and count >= 1.")
    stop = len(state.ids) if count is None else min(first + count, len(state.ids))
    return model.lens(state, range(min(first, stop), stop))


def _attention(model: Analysis, fields: Mapping[str, Any]) -> dict[str, Any]:
    size = integer(fields, "size")
    if not 1 <= size <= _LARGEST_THUMBNAIL:
        raise RequestError(f"size {size} is not in 1 .. {_LARGEST_THUMBNAIL}.")
    return model.attention(State.parse(fields), integer(fields, "layer"), size)


def _attribution(model: Analysis, fields: Mapping[str, Any]) -> dict[str, Any]:
    minus = integer(fields, "minus", none=True)
    return model.attribution(State.parse(fields), integer(fields, "token"), minus, integer(fields, "position"))


ANSWERS: dict[str, Answer] = {
    "encode": _encode,
    "view": lambda model, fields: model.view(State.parse(fields)),
    "next": lambda model, fields: model.next(State.parse(fields), integer(fields, "position")),
    "sample": _sample,
    "lens": _lens,
    "norms": lambda model, fields: model.norms(State.parse(fields)),
    "attention": _attention,
    "head": lambda model, fields: model.head(State.parse(fields), integer(fields, "layer"), integer(fields, "head")),
    "attribution": _attribution,
}
