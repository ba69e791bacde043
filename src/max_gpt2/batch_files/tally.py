"""What all records come to."""

import math
from dataclasses import dataclass

from max_gpt2.batch_files.output import Record
from max_gpt2.generation import perplexity


@dataclass
class Tally:
    """What all records come to: those that are errors, and the tokens of the others.

    Of scores also the logarithm of the probability of all texts, and how many tokens it is of.
    """

    errors: int = 0
    tokens: int = 0
    logprob: float = 0.0
    counted: int = 0

    def add(self, record: Record) -> None:
        """Count one."""
        if "error" in record:
            self.errors += 1
            return
        self.tokens += len(record["tokens"])
        if "logprob" in record:
            self.logprob += math.nan if record["logprob"] is None else record["logprob"]  # null, as JSON has it
            self.counted += len(record["tokens"]) - 1

    @property
    def perplexity(self) -> float | None:
        """The perplexity of all texts together, each token of which counts alike; None when there are none."""
        return perplexity(self.logprob, self.counted) if self.counted else None
