"""Whether this machine has what max-gpt2 needs, and what to do where it has not."""

from max_gpt2.doctor.examine import examine
from max_gpt2.doctor.finding import Finding

__all__ = ["Finding", "examine"]
