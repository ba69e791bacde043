"""What a prompt is: a text, texts, ids or lists of ids, in any case ids within the vocabulary and the context."""

from collections.abc import Sequence
from dataclasses import dataclass

from max_gpt2.serve.front.errors import bad_field
from max_gpt2.serve.front.served import Limits, Served
from max_gpt2.serve.front.validate import check_unicode, shown


@dataclass(frozen=True)
class PromptIds:
    """The ids of a prompt, how errors call it, and its text if it came as one."""

    param: str
    ids: list[int]
    text: str | None = None


def read_prompts(value: object, served: Served, limits: Limits) -> list[PromptIds]:
    """Return the prompts of a request; raises RefusedError that names the one at fault."""
    if value is None:
        return [PromptIds("prompt", [served.tokenizer.end_of_text], "")]
    if isinstance(value, str):
        return [_of_text("prompt", value, served)]
    if not isinstance(value, list):
        raise bad_field("prompt", f"{shown(value)} is neither a text nor a list. Send a text, texts or ids.")
    if not value:
        raise bad_field("prompt", "the list is empty. Send at least one text or id, or null to start a new document.")
    if _is_id(value[0]):
        return [_of_ids("prompt", value, served)]
    if len(value) > limits.max_prompts:
        raise bad_field("prompt", f"there are {len(value)}, and at most {limits.max_prompts} are possible. Send fewer.")
    return [_of_one(f"prompt[{place}]", one, type(value[0]), served) for place, one in enumerate(value)]


def _of_one(param: str, value: object, kind: type, served: Served) -> PromptIds:
    if kind not in (str, list):
        raise bad_field(param, f"{shown(value)} is neither a text nor an id nor a list of ids. Correct it.")
    if isinstance(value, str) and kind is str:
        return _of_text(param, value, served)
    if isinstance(value, list) and kind is list:
        return _of_ids(param, value, served)
    raise bad_field(param, f"{shown(value)} is not of the kind of the first prompt. Send all as texts, or all as ids.")


def _of_text(param: str, text: str, served: Served) -> PromptIds:
    if not text:
        raise bad_field(param, "the text is empty. Send one, or null to start a new document.")
    check_unicode(param, text)
    least = -(-len(text.encode()) // served.texts.longest)
    if least > served.config.n_positions:  # without counting them, which takes long in a very long text
        raise too_long(param, f"at least {least}", served)
    ids = served.tokenizer.encode(text)
    _check_length(param, ids, served)
    return PromptIds(param, ids, text)


def _of_ids(param: str, values: Sequence[object], served: Served) -> PromptIds:
    ids: list[int] = []
    vocab = served.config.vocab_size
    if not values:
        raise bad_field(param, "the list is empty. Send at least one id.")
    _check_length(param, values, served)
    for place, one in enumerate(values):
        if not isinstance(one, int) or isinstance(one, bool):
            raise bad_field(f"{param}[{place}]", f"{shown(one)} is not an id. Send whole numbers.")
        if not 0 <= one < vocab:
            problem = f"the id {shown(one)} is not in 0 .. {vocab - 1}. Remove it."
            raise bad_field(f"{param}[{place}]", problem, "id_out_of_range")
        ids.append(one)
    return PromptIds(param, ids)


def _check_length(param: str, ids: Sequence[object], served: Served) -> None:
    if len(ids) > served.config.n_positions:
        raise too_long(param, str(len(ids)), served)


def too_long(param: str, tokens: str, served: Served) -> Exception:
    """Return the 400 for a prompt that the model's context cannot hold."""
    context = served.config.n_positions
    problem = f"it has {tokens} tokens, and the context of {served.name} is {context}. Shorten it."
    return bad_field(param, problem, "context_length_exceeded")


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
