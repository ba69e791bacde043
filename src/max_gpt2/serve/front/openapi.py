"""The OpenAPI document: what there is, made from the same classes that check the requests."""

from typing import Any

from pydantic.json_schema import models_json_schema

from max_gpt2 import __version__
from max_gpt2.serve.front.fields import ChatFields, CompletionFields
from max_gpt2.serve.front.served import Served

_REF = "#/components/schemas/"
_TEXT = {"type": "string"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_NUMBER = {"type": "integer"}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {"message": _TEXT, "type": _TEXT, "param": _MAYBE_TEXT, "code": _MAYBE_TEXT},
        }
    },
}
_USAGE = {
    "type": "object",
    "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
    "properties": {"prompt_tokens": _NUMBER, "completion_tokens": _NUMBER, "total_tokens": _NUMBER},
}
_FINISH = {"enum": ["stop", "length"]}
_MODEL = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {"id": _TEXT, "object": {"const": "model"}, "created": _NUMBER, "owned_by": _TEXT},
}
_MODELS = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": _MODEL}},
}
_HEALTH = {
    "type": "object",
    "required": ["status", "reason", "restarts", "seconds"],
    "properties": {
        "status": {"enum": ["starting", "ready", "restarting", "stopping", "failed"]},
        "reason": _MAYBE_TEXT,
        "restarts": _NUMBER,
        "seconds": {"type": "number"},
    },
}
_VERSION = {
    "type": "object",
    "required": ["version", "max"],
    "properties": {"version": _TEXT, "max": _TEXT},
}
_EVENT = {"type": "object", "required": ["data"], "properties": {"data": _TEXT}}
_SAYS = {
    "400": "A field is wrong; the error names it.",
    "401": "The API key is missing or wrong.",
    "404": "There is no such model.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The content type is not application/json.",
    "429": "There are too many requests; Retry-After says when to come again.",
    "500": "An error that max-gpt2 did not foresee.",
    "503": "The worker is starting, or was lost; Retry-After says when to come again.",
}


def document(served: Served) -> dict[str, Any]:
    """Return the document for a server."""
    requests = models_json_schema(
        [(CompletionFields, "validation"), (ChatFields, "validation")], ref_template=_REF + "{model}"
    )[1]["$defs"]
    requests["Error"] = _ERROR
    for kind in (CompletionFields, ChatFields):
        requests[kind.__name__]["properties"]["model"] |= {"const": served.name}
    return {
        "openapi": "3.1.0",
        "info": {"title": "max-gpt2", "version": __version__},
        "security": [{}, {"key": []}],
        "paths": {
            "/v1/completions": {"post": _post("Continue prompts", "CompletionFields", _completion())},
            "/v1/chat/completions": {"post": _post("Continue a chat", "ChatFields", _chat())},
            "/v1/models": {"get": _get("The model that is served", _MODELS)},
            "/v1/models/{name}": {
                "get": _get("The model by its name", _MODEL, "404") | {"parameters": [_name(served)]}
            },
            "/health": {"get": _get("Whether the worker can answer", _HEALTH, health=True)},
            "/version": {"get": _get("The versions of max-gpt2 and MAX", _VERSION)},
            "/metrics": {"get": _get("Numbers for Prometheus", None)},
            "/openapi.json": {"get": _get("This document", {"type": "object"})},
        },
        "components": {"schemas": requests, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _name(served: Served) -> dict[str, Any]:
    return {"name": "name", "in": "path", "required": True, "schema": _TEXT, "example": served.name}


def _json(schema: dict[str, Any], says: str) -> dict[str, Any]:
    return {"description": says, "content": {"application/json": {"schema": schema}}}


def _errors(*codes: str) -> dict[str, Any]:
    return {code: _json({"$ref": _REF + "Error"}, _SAYS[code]) for code in codes}


def _post(summary: str, fields: str, answer: dict[str, Any]) -> dict[str, Any]:
    good = _json(answer, "The texts; with stream: true as server-sent events, the last of which is [DONE].")
    good["content"]["text/event-stream"] = {"schema": _EVENT}
    body = {"required": True, "content": {"application/json": {"schema": {"$ref": _REF + fields}}}}
    codes = ("400", "401", "404", "408", "413", "415", "429", "500", "503")
    return {"summary": summary, "requestBody": body, "responses": {"200": good} | _errors(*codes)}


def _get(summary: str, answer: dict[str, Any] | None, *codes: str, health: bool = False) -> dict[str, Any]:
    if answer is None:
        good: dict[str, Any] = {"description": summary, "content": {"text/plain": {"schema": _TEXT}}}
    else:
        good = _json(answer, summary)
    bad = {"503": _json(_HEALTH, "It cannot; the reason is in the answer.")} if health else _errors("401")
    return {"summary": summary, "responses": {"200": good} | bad | _errors(*codes)}


def _completion() -> dict[str, Any]:
    logprobs = {"type": ["object", "null"], "required": ["tokens", "token_logprobs", "top_logprobs", "text_offset"]}
    choice = {
        "type": "object",
        "required": ["index", "text", "logprobs", "finish_reason"],
        "properties": {"index": _NUMBER, "text": _TEXT, "logprobs": logprobs, "finish_reason": _FINISH},
    }
    return _answer("text_completion", choice)


def _chat() -> dict[str, Any]:
    message = {
        "type": "object",
        "required": ["role", "content"],
        "properties": {"role": {"const": "assistant"}, "content": _TEXT},
    }
    choice = {
        "type": "object",
        "required": ["index", "message", "logprobs", "finish_reason"],
        "properties": {
            "index": _NUMBER,
            "message": message,
            "logprobs": {"type": ["object", "null"]},
            "finish_reason": _FINISH,
        },
    }
    return _answer("chat.completion", choice)


def _answer(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices", "usage"],
        "properties": {
            "id": _TEXT,
            "object": {"const": kind},
            "created": _NUMBER,
            "model": _TEXT,
            "choices": {"type": "array", "items": choice},
            "usage": _USAGE,
        },
    }
