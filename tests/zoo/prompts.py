"""What a good checkpoint is asked and cannot do; each is refused before anything is compiled."""

from pathlib import Path

from max_gpt2.checkpoint import Checkpoint
from max_gpt2.generation import Request, check_request, encode_prompt
from tests.zoo.fixture import Group, fixture, saved


def refused(row: str, prompt: str | list[int]) -> None:
    """Put a prompt that has to be refused on the list."""

    def ask(checkpoint: Checkpoint) -> None:
        tokens = encode_prompt(checkpoint.tokenizer, prompt) if isinstance(prompt, str) else prompt
        check_request(checkpoint.config, checkpoint.tokenizer, Request(tokens, max_new_tokens=1))

    def build(folder: Path) -> None:
        saved(folder)

    fixture(Group.PROMPTS, row, ask=ask)(build)


refused("a prompt over the context", [5] * 68)
refused("a prompt id that is not in the vocabulary", [5, 311])
refused("a prompt id below 0", [-1])
refused("a list of no ids", [])
refused("half a character: a lone surrogate", "ab\ud800")
