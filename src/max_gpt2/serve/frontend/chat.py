"""A chat as one prompt: the template of a checkpoint or of a file, rendered as transformers does it."""

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
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.tokenizer.legacy import END_OF_TEXT

_LONGEST = 1 << 20


class ChatTemplate:
    """A Jinja template in a sandbox: it can change nothing, and sees the messages only."""

    def __init__(self, source: str, tokenizer: GPT2Tokenizer, name: str = "the chat template") -> None:
        """Compile a template; raises ConfigError, which names it, for one that is no Jinja."""
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ConfigError(f"{name} is not a Jinja template ({error}). Correct it.") from error
        # Unlike everywhere else, a special token in the text is one: that is how a template marks whose turn it is.
        self._library = Tokenizer.from_str(tokenizer.json)
        self._library.no_padding()
        self._library.no_truncation()

    def ids(self, messages: Sequence[Message], n_positions: int) -> list[int]:
        """Return the ids of a chat; raises RefusedError when the template refuses it, or the context is too small."""
        said = [
            {"role": one.role, "content": one.text()} | ({"name": one.name} if one.name else {}) for one in messages
        ]
        names = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}
        try:
            text = self._template.render(messages=said, add_generation_prompt=True, **names)
        except RefusedError:
            raise
        except Exception as error:  # a template is a program: whatever it does wrong is about this chat
            problem = (
                f"the chat template does not accept them ({type(error).__name__}: {str(error)[:200]}). Correct them."
            )
            raise bad_field("messages", problem, "chat_template") from None
        check_unicode("messages", text)
        if len(text) > _LONGEST:
            raise bad_field("messages", f"the chat has {len(text)} characters. Shorten it.", "context_length_exceeded")
        ids = self._library.encode(text, add_special_tokens=False).ids
        if not ids:
            raise bad_field("messages", "the chat template makes an empty prompt of them. Correct the template.")
        if len(ids) > n_positions:
            problem = f"the chat has {len(ids)} tokens, and the context is {n_positions}. Shorten it."
            raise bad_field("messages", problem, "context_length_exceeded")
        return ids


def find_template(file: Path | None, folder: Path | None) -> tuple[str, str] | None:
    """Return the text and the name of a template: the file's, or else the checkpoint's own, if it has one.

    Raises ConfigError when a file cannot be read or holds none.
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
        raise ConfigError(f"{file} cannot be read: {error.strerror}. Name a file with a Jinja template.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8. Name a file with a Jinja template.") from error


def _refuse(message: object) -> NoReturn:
    raise bad_field("messages", f"the chat template refuses them: {str(message)[:500]}. Correct them.", "chat_template")


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
