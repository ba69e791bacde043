"""The fields of the requests, as OpenAI documents them, and those that other servers have added."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

MOST_CHOICES = 128
MOST_BEST_OF = 20
MOST_STOPS = 16
MOST_LOGPROBS = 5

_IDS = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
_TEXTS = {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}}
_MANY_IDS = {"type": "array", "minItems": 1, "items": _IDS}
_PROMPT = {"anyOf": [{"type": "string", "minLength": 1}, _TEXTS, _IDS, _MANY_IDS, {"type": "null"}]}
_STOPS = {"type": "array", "maxItems": MOST_STOPS, "items": {"type": "string", "minLength": 1}}
_STOP = {"anyOf": [{"type": "string", "minLength": 1}, _STOPS, {"type": "null"}]}
_BIAS_VALUE = {"type": "number", "minimum": -100, "maximum": 100}
_BIAS = {
    "anyOf": [
        {"type": "object", "propertyNames": {"pattern": "^[0-9]+$"}, "additionalProperties": _BIAS_VALUE},
        {"type": "null"},
    ]
}

# What pydantic would check with one complaint for each element of each alternative, `prompts` and `stops` check.
Prompt = Annotated[Any, WithJsonSchema(_PROMPT)]
Stop = Annotated[Any, WithJsonSchema(_STOP)]
LogitBias = Annotated[Any, WithJsonSchema(_BIAS)]
Penalty = Annotated[float | None, Field(ge=-2, le=2)]


def _unicode(text: str) -> str:
    """Refuse lone surrogates, which JSON can hold and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("string_unicode", "it is not valid Unicode") from None
    return text


Text = Annotated[str, AfterValidator(_unicode)]


class Fields(BaseModel):
    """A request: each type is exact (no "5" for 5), no number is NaN, and a field that nobody knows is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Fields):
    """What goes with `stream`."""

    include_usage: bool = Field(False, description="Send a last piece with the usage of the whole request.")


class Common(Fields):
    """What both kinds of completion have."""

    model: Text = Field(description="The model's name, as /v1/models has it.")
    max_tokens: Annotated[int | None, Field(ge=0)] = Field(None, description="How many tokens to write at most.")
    temperature: Annotated[float | None, Field(ge=0, le=2)] = Field(None, description="0 is greedy; the default is 1.")
    top_p: Annotated[float | None, Field(ge=0, le=1)] = Field(None, description="The default, 1, is off.")
    top_k: Annotated[int | None, Field(ge=-1, le=2**31 - 1)] = Field(
        None, description="0 and -1, the default, are off."
    )
    min_p: Annotated[float | None, Field(ge=0, le=1)] = Field(None, description="The default, 0, is off.")
    n: Annotated[int | None, Field(ge=1, le=MOST_CHOICES)] = Field(None, description="How many choices; 1 by default.")
    stream: bool | None = Field(None, description="Send the text as it is written, as server-sent events.")
    stream_options: StreamOptions | None = Field(None, description="Only with stream.")
    stop: Stop = Field(None, description="Strings before the first of which the text ends.")
    presence_penalty: Penalty = Field(None, description="Taken off tokens that are in the text; 0 by default.")
    frequency_penalty: Penalty = Field(None, description="The same, times how often they are.")
    repetition_penalty: Annotated[float | None, Field(gt=0, le=100)] = Field(
        None, description="1, the default, is off."
    )
    logit_bias: LogitBias = Field(None, description="What is added to which ids' logits.")
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = Field(
        None, description="The same seed gives the same text; choice number i has seed + i."
    )
    user: Text | None = Field(None, max_length=512, description="Who asks, for the server's log.")
    ignore_eos: bool | None = Field(None, description="Write on after an end-of-text token.")


class CompletionFields(Common):
    """A request to /v1/completions."""

    prompt: Prompt = Field(None, description="A text, texts, ids or lists of ids; null starts a new document.")
    best_of: Annotated[int | None, Field(ge=1, le=MOST_BEST_OF)] = Field(
        None, description="Write so many and return the n that are likeliest per token."
    )
    logprobs: Annotated[int | None, Field(ge=0, le=MOST_LOGPROBS)] = Field(
        None, description="Report each token's log probability, and so many of the likeliest in its place."
    )
    echo: bool | None = Field(None, description="Begin with the prompt.")


class TextPart(Fields):
    """A part of a message."""

    type: Literal["text"]
    text: Text


def _kind_of_content(value: object) -> str:
    return PARTS_TAG if isinstance(value, list) else TEXT_TAG


TEXT_TAG, PARTS_TAG = "<text>", "<parts>"
Content = Annotated[
    Annotated[Text, Tag("<text>")] | Annotated[list[TextPart], Tag("<parts>")], Discriminator(_kind_of_content)
]


class Message(Fields):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: Text | None = None

    def text(self) -> str:
        """Return the content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatFields(Common):
    """A request to /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1, max_length=1000, description="The chat so far.")
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = Field(None, description="The same as max_tokens.")
    max_tokens: Annotated[int | None, Field(ge=1)] = Field(None, description="How many tokens to write at most.")
    logprobs: bool | None = Field(None, description="Report each token's log probability.")
    top_logprobs: Annotated[int | None, Field(ge=0, le=MOST_LOGPROBS)] = Field(
        None, description="How many of the likeliest tokens to report with it."
    )


# What OpenAI documents and a GPT-2 behind max-gpt2 does not have. Each may be null.
NOT_HERE: dict[str, str] = {
    "suffix": "GPT-2 only continues a text; it cannot write what comes before a suffix. Leave it out.",
    "tools": "GPT-2 calls no tools. Leave it out.",
    "tool_choice": "GPT-2 calls no tools. Leave it out.",
    "parallel_tool_calls": "GPT-2 calls no tools. Leave it out.",
    "functions": "GPT-2 calls no functions. Leave it out.",
    "function_call": "GPT-2 calls no functions. Leave it out.",
    "response_format": 'there is no constrained output. Leave it out, or use {"type": "text"}.',
    "modalities": "GPT-2 writes text only. Leave it out.",
    "audio": "GPT-2 writes text only. Leave it out.",
    "prediction": "predicted outputs are not supported. Leave it out.",
    "reasoning_effort": "GPT-2 does not reason. Leave it out.",
    "verbosity": "it has no meaning for GPT-2. Leave it out.",
    "web_search_options": "there is no search. Leave it out.",
    "service_tier": "there is only one tier. Leave it out.",
    "store": "nothing is stored. Leave it out.",
    "metadata": "nothing is stored. Leave it out.",
    "safety_identifier": "it is not evaluated. Use user.",
    "prompt_cache_key": "it is not evaluated. Leave it out.",
    "prompt_cache_retention": "it is not evaluated. Leave it out.",
}
