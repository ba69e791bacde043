"""The served model and the limits of the server."""

from dataclasses import dataclass, field
from time import time

from max_gpt2.config import GPT2Config
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.tokenizer.detokenizer import TokenTable


@dataclass(frozen=True)
class Limits:
    """Limits of the server, in requests, bytes and seconds.

    `queue_size` requests may wait in addition to the `max_batch_size` that run. A body must arrive within `read_s`, and
    a client that reads nothing for `write_s` is disconnected.
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
    """A model with the name that clients use for it."""

    name: str
    config: GPT2Config
    tokenizer: GPT2Tokenizer
    created: int = field(default_factory=lambda: int(time()))
    token_table: TokenTable = field(init=False)

    def __post_init__(self) -> None:
        """Create the token table, which is shared by all requests."""
        object.__setattr__(self, "token_table", TokenTable(self.tokenizer))
