"""Renders a chat as one prompt with the template of a checkpoint or of a file, as transformers does."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from max_gpt2.errors import ConfigError
from max_gpt2.serve.frontend.errors import RefusedError, bad_field
from max_gpt2.serve.frontend.parsing import check_unicode
from max_gpt2.serve.frontend.schema import Message
from max_gpt2.tokenizer import END_OF_TEXT, GPT2Tokenizer

_MAX_CHARACTERS = 1 << 20


class ChatTemplate:
    """A Jinja template in a sandbox: it can change nothing and sees only the messages."""

    def __init__(self, source: str, tokenizer: GPT2Tokenizer, name: str = "the chat template") -> None:
        """Compile a template; raises ConfigError, which contains `name`, if it is not valid Jinja."""
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _reject, "strftime_now": _now}
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ConfigError(f"{name} is not a valid Jinja template ({error}). Correct it.") from error
        # Unlike elsewhere, special tokens in the text are recognized: templates separate the messages with them.
        self._library = Tokenizer.from_str(tokenizer.json)
        self._library.no_padding()
        self._library.no_truncation()

    def ids(self, messages: Sequence[Message], n_positions: int) -> list[int]:
        """Return the ids of a chat; raises RefusedError if the template rejects it or it exceeds the context."""
        conversation = [
            {"role": one.role, "content": one.text()} | ({"name": one.name} if one.name else {}) for one in messages
        ]
        names = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}
        try:
            text = self._template.render(messages=conversation, add_generation_prompt=True, **names)
        except RefusedError:
            raise
        except Exception as error:  # a template is a program and can raise anything
            problem = f"the chat template failed ({type(error).__name__}: {str(error)[:200]}). Correct the messages."
            raise bad_field("messages", problem, "chat_template") from None
        check_unicode("messages", text)
        if len(text) > _MAX_CHARACTERS:
            problem = f"the chat has {len(text)} characters; the maximum is {_MAX_CHARACTERS}. Shorten it."
            raise bad_field("messages", problem, "context_length_exceeded")
        ids = self._library.encode(text, add_special_tokens=False).ids
        if not ids:
            raise bad_field("messages", "the chat template renders an empty prompt. Correct the template.")
        if len(ids) > n_positions:
            problem = f"the chat has {len(ids)} tokens, but the context is {n_positions}. Shorten it."
            raise bad_field("messages", problem, "context_length_exceeded")
        return ids


def find_template(file: Path | None, folder: Path | None) -> tuple[str, str] | None:
    """Return the source and the name of a template: that of the file, or else that of the checkpoint if it has one.

    Raises ConfigError if a file cannot be read.
    """
    if file is not None:
        return _read(file), str(file)
    if folder is None:
        return None
    if (single := folder / "chat_template.jinja").is_file():
        return _read(single), str(single)
    if (config := folder / "tokenizer_config.json").is_file():
        try:
            found = json.loads(_read(config)).get("chat_template")
        except (ValueError, AttributeError):
            return None  # the tokenizer does not need this file
        if isinstance(found, str):
            return found, f"chat_template in {config}"
    return None


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}. Specify a Jinja template.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8. Specify a Jinja template.") from error


def _reject(message: object) -> NoReturn:
    problem = f"the chat template rejects them: {str(message)[:500]}. Correct the messages."
    raise bad_field("messages", problem, "chat_template")


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
