"""Renders a chat as one prompt with the template of a checkpoint or of a file, as transformers does."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from max_gpt2.errors import ConfigError
from max_gpt2.serve.frontend.errors import RefusedError, bad_field
from max_gpt2.serve.frontend.parsing import check_unicode
from max_gpt2.serve.frontend.schema import Message
from max_gpt2.serve.frontend.template_process import TemplateProcess
from max_gpt2.tokenizer import END_OF_TEXT, GPT2Tokenizer
from max_gpt2.tokenizer.chat_template import read_chat_template, read_template
from max_gpt2.tokenizer.detokenizer import TokenTable

_FAILED = "chat_template"


class ChatTemplate:
    """A Jinja template, rendered in a process with limits: it sees only the messages and the special tokens."""

    def __init__(self, source: str, tokenizer: GPT2Tokenizer, name: str = "the chat template") -> None:
        """Compile a template; raises ConfigError, which contains `name`, if it is not valid Jinja."""
        self._process = TemplateProcess(source)
        if problem := self._process.compile():
            raise ConfigError(f"{name} is not a valid Jinja template ({problem}). Correct it.")
        self._special_tokens = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT} | tokenizer.special_tokens
        self._token_table = TokenTable(tokenizer)
        self._vocab_size = tokenizer.vocab_size
        # Unlike elsewhere, special tokens in the text are recognized: templates separate the messages with them.
        self._library = Tokenizer.from_str(tokenizer.json)
        self._library.no_padding()
        self._library.no_truncation()

    def ids(self, messages: Sequence[Message], n_positions: int) -> list[int]:
        """Return the ids of a chat; raises RefusedError if the template rejects it or it exceeds the context."""
        conversation = [
            {"role": one.role, "content": one.text()} | ({"name": one.name} if one.name else {}) for one in messages
        ]
        variables = {"messages": conversation, "add_generation_prompt": True}
        reply = self._process.render(self._special_tokens | variables)
        if reason := reply.get("rejected"):
            raise bad_field("messages", f"the chat template rejects them: {reason}. Correct the messages.", _FAILED)
        if reason := reply.get("failed"):
            raise bad_field("messages", f"the chat template failed ({reason}). Correct the messages.", _FAILED)
        text = reply["text"]
        check_unicode("messages", text)
        least = -(-len(text) // self._token_table.longest)
        if least > n_positions:  # a lower bound, since encoding a very long text takes seconds
            raise _too_long(f"at least {least}", n_positions)
        ids = self._library.encode_batch([text], add_special_tokens=False)[0].ids
        if not ids:
            raise bad_field("messages", "the chat template renders an empty prompt. Correct the template.")
        if self._vocab_size is not None and (largest := max(ids)) >= self._vocab_size:
            problem = f"the chat contains {self._library.id_to_token(largest)!r}, a token that the model does not have."
            raise bad_field("messages", f"{problem} Remove it.", "id_out_of_range")
        if len(ids) > n_positions:
            raise _too_long(str(len(ids)), n_positions)
        return ids

    def close(self) -> None:
        """End the process of the template."""
        self._process.close()


def _too_long(tokens: str, n_positions: int) -> RefusedError:
    problem = f"the chat has {tokens} tokens, but the context is {n_positions}. Shorten it."
    return bad_field("messages", problem, "context_length_exceeded")


def find_template(file: Path | None, folder: Path | None) -> tuple[str, str] | None:
    """Return the source and the name of a template: that of the file, or else that of the checkpoint if it has one.

    Raises ConfigError if a file cannot be read.
    """
    if file is not None:
        return read_template(file), str(file)
    return None if folder is None else read_chat_template(folder)
