"""What a check found: right or not, and in which words."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """The answer to a check: `text` is one or more lines for the learner."""

    passed: bool
    text: str
