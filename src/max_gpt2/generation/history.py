"""What a text consists of so far, as far as it decides about the next token."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class History:
    """The ids of a prompt, and the ids that were written after it; `written` grows."""

    prompt: list[int]
    written: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        """All of them."""
        return self.prompt + self.written
