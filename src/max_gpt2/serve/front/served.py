"""What is served, and within which limits."""

from dataclasses import dataclass, field
from time import time

from max_gpt2.config import GPT2Config
from max_gpt2.serve.front.token_text import TokenText
from max_gpt2.tokenizer import GPT2Tokenizer


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
class Served:
    """A model under its name: its config and tokenizer."""

    name: str
    config: GPT2Config
    tokenizer: GPT2Tokenizer
    created: int = field(default_factory=lambda: int(time()))
    texts: TokenText = field(init=False)

    def __post_init__(self) -> None:
        """Make the table of the tokens' bytes once."""
        object.__setattr__(self, "texts", TokenText(self.tokenizer))
