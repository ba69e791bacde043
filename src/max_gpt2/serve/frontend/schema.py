"""The fields of requests, which are OpenAI's with common extensions, and the OpenAPI document."""

import json
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import models_json_schema
from pydantic_core import PydanticCustomError

from max_gpt2 import __version__
from max_gpt2.serve.settings import ServedModel

MAX_CHOICES = 128
MAX_BEST_OF = 20
MAX_STOPS = 16
MAX_STOP_IDS = 256
MAX_LOGPROBS = 5

_IDS = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
_TEXTS = {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}}
_MANY_IDS = {"type": "array", "minItems": 1, "items": _IDS}
_PROMPT = {"anyOf": [{"type": "string", "minLength": 1}, _TEXTS, _IDS, _MANY_IDS, {"type": "null"}]}
_STOPS = {"type": "array", "maxItems": MAX_STOPS, "items": {"type": "string", "minLength": 1}}
_STOP = {"anyOf": [{"type": "string", "minLength": 1}, _STOPS, {"type": "null"}]}
_STOP_IDS = {"anyOf": [{"type": "array", "maxItems": MAX_STOP_IDS, "items": _IDS["items"]}, {"type": "null"}]}
_BIAS_VALUE = {"type": "number", "minimum": -100, "maximum": 100}
_BIAS = {
    "anyOf": [
        {"type": "object", "propertyNames": {"pattern": "^[0-9]+$"}, "additionalProperties": _BIAS_VALUE},
        {"type": "null"},
    ]
}

# `read_prompts`, `check_stops`, `check_stop_ids` and `check_bias` validate these:
# pydantic would report each element of each alternative.
Prompt = Annotated[Any, WithJsonSchema(_PROMPT)]
Stop = Annotated[Any, WithJsonSchema(_STOP)]
StopIds = Annotated[Any, WithJsonSchema(_STOP_IDS)]
LogitBias = Annotated[Any, WithJsonSchema(_BIAS)]
Penalty = Annotated[float | None, Field(ge=-2, le=2)]


def _unicode(text: str) -> str:
    """Reject lone surrogates, which JSON can contain and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("string_unicode", "it is not valid Unicode") from None
    return text


Text = Annotated[str, AfterValidator(_unicode)]


UNKNOWN_FIELD = "unknown_field"


class Fields(BaseModel):
    """The fields of a request: types are strict (no "5" for 5), numbers are finite, and unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    null_is_absent: ClassVar[bool] = False

    @model_validator(mode="wrap")
    @classmethod
    def check(cls, given: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Validate the known fields, reading 5.0 as 5, and then report one unknown field: pydantic would list all."""
        if not isinstance(given, dict):
            return validate(given)
        if cls.null_is_absent:
            given = {name: value for name, value in given.items() if value is not None}
        found = validate({name: whole_number(given[name]) for name in cls.model_fields if name in given})
        for name in given:
            if name not in cls.model_fields:
                # As JSON, since pydantic encodes it and it may contain lone surrogates.
                raise PydanticCustomError(UNKNOWN_FIELD, "this field does not exist", {"name": json.dumps(name[:200])})
        return found


def whole_number(value: Any) -> Any:
    """Return a float such as 5.0 as an integer, since JSON does not distinguish them; other values as they are."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53 else value


class StreamOptions(Fields):
    """The options of a streamed response."""

    include_usage: bool = Field(False, description="Send a last chunk with the token counts of the request.")


class CommonFields(Fields):
    """The fields of both completion endpoints."""

    model: Text = Field(description="The name of the model, as listed by /v1/models.")
    max_tokens: Annotated[int | None, Field(ge=0)] = Field(None, description="Maximum number of tokens to generate.")
    temperature: Annotated[float | None, Field(ge=0, le=2)] = Field(
        None, description="Divisor of the logits; 0 is greedy, the default is 1."
    )
    top_p: Annotated[float | None, Field(ge=0, le=1)] = Field(
        None, description="Sample from the most likely tokens with this total probability; 1, the default, is off."
    )
    top_k: Annotated[int | None, Field(ge=-1, le=2**31 - 1)] = Field(
        None, description="Sample from this many most likely tokens; 0 and -1, the default, are off."
    )
    min_p: Annotated[float | None, Field(ge=0, le=1)] = Field(
        None, description="Drop tokens less likely than this times the most likely one; 0, the default, is off."
    )
    n: Annotated[int | None, Field(ge=1, le=MAX_CHOICES)] = Field(
        None, description="Number of choices per prompt; 1 by default."
    )
    stream: bool | None = Field(None, description="Send the text while it is generated, as server-sent events.")
    stream_options: StreamOptions | None = Field(None, description="Valid only with stream.")
    stop: Stop = Field(None, description="One or more strings; the text ends before the first match.")
    stop_ids: StopIds = Field(None, description="Token ids that end the text, which does not contain them.")
    presence_penalty: Penalty = Field(
        None, description="Subtracted from the logits of tokens that were generated before; 0 by default."
    )
    frequency_penalty: Penalty = Field(
        None, description="Subtracted once for each time that a token was generated before; 0 by default."
    )
    repetition_penalty: Annotated[float | None, Field(gt=0, le=100)] = Field(
        None, description="Makes tokens that occurred before less likely if above 1; 1, the default, is off."
    )
    logit_bias: LogitBias = Field(None, description="Values to add to the logits, by token id.")
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = Field(
        None, description="The same seed gives the same text; choice i of a prompt has the seed `seed + i`."
    )
    user: Text | None = Field(None, max_length=512, description="An identifier of the user, for the server's log.")
    ignore_eos: bool | None = Field(None, description="Continue after end-of-text tokens.")


class CompletionFields(CommonFields):
    """A request to /v1/completions."""

    prompt: Prompt = Field(None, description="A string, token ids, or a list of either; null starts a new document.")
    best_of: Annotated[int | None, Field(ge=1, le=MAX_BEST_OF)] = Field(
        None, description="Generate this many and return the n with the highest log probability per token."
    )
    logprobs: Annotated[int | None, Field(ge=0, le=MAX_LOGPROBS)] = Field(
        None, description="Return the log probability of each token and of this many most likely alternatives."
    )
    echo: bool | None = Field(None, description="Prepend the prompt.")


class MessageFields(Fields):
    """The fields of a message or of a part of one. Null is the same as an absent field, also for unknown names.

    Clients send the messages that they received back, with fields such as `refusal`, which are null.
    """

    model_config = ConfigDict(json_schema_extra={"additionalProperties": {"type": "null"}})
    null_is_absent: ClassVar[bool] = True


class TextPart(MessageFields):
    """A text part of a message."""

    type: Literal["text"]
    text: Text


def _content_tag(value: object) -> str:
    return PARTS_TAG if isinstance(value, list) else TEXT_TAG


TEXT_TAG, PARTS_TAG = "<text>", "<parts>"
Content = Annotated[
    Annotated[Text, Tag("<text>")] | Annotated[list[TextPart | None], Field(fail_fast=True), Tag("<parts>")],
    Discriminator(_content_tag),
]


class Message(MessageFields):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: Text | None = None

    def text(self) -> str:
        """Return the content as a single string."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content if part)


class ChatFields(CommonFields):
    """A request to /v1/chat/completions."""

    messages: list[Message] = Field(
        min_length=1, max_length=1000, fail_fast=True, description="The messages of the chat."
    )
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = Field(None, description="The same as max_tokens.")
    max_tokens: Annotated[int | None, Field(ge=1)] = Field(None, description="Maximum number of tokens to generate.")
    logprobs: bool | None = Field(None, description="Return the log probability of each token.")
    top_logprobs: Annotated[int | None, Field(ge=0, le=MAX_LOGPROBS)] = Field(
        None, description="Number of most likely tokens to return at each position."
    )


# Fields of OpenAI's API that are rejected unless they are null, each with the reason and the remedy.
UNSUPPORTED_FIELDS: dict[str, str] = {
    "suffix": "GPT-2 can only continue a text, not insert before a suffix. Leave it out.",
    "tools": "GPT-2 does not support tools. Leave it out.",
    "tool_choice": "GPT-2 does not support tools. Leave it out.",
    "parallel_tool_calls": "GPT-2 does not support tools. Leave it out.",
    "functions": "GPT-2 does not support functions. Leave it out.",
    "function_call": "GPT-2 does not support functions. Leave it out.",
    "response_format": 'constrained output is not supported. Leave it out, or use {"type": "text"}.',
    "modalities": "GPT-2 generates only text. Leave it out.",
    "audio": "GPT-2 generates only text. Leave it out.",
    "prediction": "predicted outputs are not supported. Leave it out.",
    "reasoning_effort": "GPT-2 is not a reasoning model. Leave it out.",
    "verbosity": "GPT-2 has no verbosity setting. Leave it out.",
    "web_search_options": "web search is not supported. Leave it out.",
    "service_tier": "service tiers are not supported. Leave it out.",
    "store": "this server stores nothing. Leave it out.",
    "metadata": "this server stores nothing. Leave it out.",
    "safety_identifier": "it is not supported. Use user instead.",
    "prompt_cache_key": "it is not supported. Leave it out.",
    "prompt_cache_retention": "it is not supported. Leave it out.",
}


_REF = "#/components/schemas/"
_TEXT = {"type": "string"}
_OPTIONAL_TEXT = {"type": ["string", "null"]}
_NUMBER = {"type": "integer"}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {"message": _TEXT, "type": _TEXT, "param": _OPTIONAL_TEXT, "code": _OPTIONAL_TEXT},
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
        "reason": _OPTIONAL_TEXT,
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
_ERRORS = {
    "400": "A field is invalid (`param` names it), or the JSON is malformed.",
    "401": "The API key is missing or wrong.",
    "404": "The model does not exist.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The content type is not application/json.",
    "429": "The queue is full; retry after the seconds in Retry-After.",
    "500": "Internal server error.",
    "503": "The worker is not ready or has failed; retry after the seconds in Retry-After.",
}


def document(served: ServedModel) -> dict[str, Any]:
    """Return the OpenAPI document of a server."""
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
            "/v1/models": {"get": _get("List the model", _MODELS)},
            "/v1/models/{name}": {"get": _get("Describe the model", _MODEL, "404") | {"parameters": [_name(served)]}},
            "/health": {"get": _get("Health of the worker", _HEALTH, health=True)},
            "/version": {"get": _get("Versions of max-gpt2 and MAX", _VERSION)},
            "/metrics": {"get": _get("Prometheus metrics", None)},
            "/openapi.json": {"get": _get("This document", {"type": "object"})},
        },
        "components": {"schemas": requests, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _name(served: ServedModel) -> dict[str, Any]:
    return {"name": "name", "in": "path", "required": True, "schema": _TEXT, "example": served.name}


def _json_content(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _errors(*codes: str) -> dict[str, Any]:
    return {code: _json_content({"$ref": _REF + "Error"}, _ERRORS[code]) for code in codes}


def _post(summary: str, fields: str, response: dict[str, Any]) -> dict[str, Any]:
    success = _json_content(response, "The choices; with stream: true as server-sent events that end with [DONE].")
    success["content"]["text/event-stream"] = {"schema": _EVENT}
    body = {"required": True, "content": {"application/json": {"schema": {"$ref": _REF + fields}}}}
    codes = ("400", "401", "404", "408", "413", "415", "429", "500", "503")
    return {"summary": summary, "requestBody": body, "responses": {"200": success} | _errors(*codes)}


def _get(summary: str, response: dict[str, Any] | None, *codes: str, health: bool = False) -> dict[str, Any]:
    if response is None:
        success: dict[str, Any] = {"description": summary, "content": {"text/plain": {"schema": _TEXT}}}
    else:
        success = _json_content(response, summary)
    not_ready = {"503": _json_content(_HEALTH, "The worker is not ready; `reason` has the cause.")}
    failure = not_ready if health else _errors("401")
    return {"summary": summary, "responses": {"200": success} | failure | _errors(*codes)}


def _completion() -> dict[str, Any]:
    logprobs = {"type": ["object", "null"], "required": ["tokens", "token_logprobs", "top_logprobs", "text_offset"]}
    choice = {
        "type": "object",
        "required": ["index", "text", "logprobs", "finish_reason"],
        "properties": {"index": _NUMBER, "text": _TEXT, "logprobs": logprobs, "finish_reason": _FINISH},
    }
    return _response("text_completion", choice)


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
    return _response("chat.completion", choice)


def _response(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
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
