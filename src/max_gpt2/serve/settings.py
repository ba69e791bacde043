"""The served model and the limits of the server."""

from dataclasses import dataclass, field
from time import time

from max_gpt2.config import GPT2Config
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.tokenizer.detokenizer import TokenTable


@dataclass(frozen=True)
class Limits:
    """How much the server takes on: requests, bytes and seconds.

    `queue_size` requests may wait besides the `max_batch_size` that are being answered. A body has to arrive within
    `read_s`, and a client that reads nothing for `write_s` is given up.
    """

    max_batch_size: int = 32
    queue_size: int = 256
    max_body_bytes: int = 4 << 20
    max_prompts: int = 2048
    read_s: float = 30.0
    write_s: float = 60.0
    drain_s: float = 30.0
    stall_s: float = 300.0


@dataclass(frozen=True)
class ServedModel:
    """A model under its name: its config and tokenizer."""

    name: str
    config: GPT2Config
    tokenizer: GPT2Tokenizer
    created: int = field(default_factory=lambda: int(time()))
    token_table: TokenTable = field(init=False)

    def __post_init__(self) -> None:
        """Create the token table, which is shared by all requests."""
        object.__setattr__(self, "token_table", TokenTable(self.tokenizer))
