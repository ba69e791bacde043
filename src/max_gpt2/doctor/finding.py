"""What an examination says."""

from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what there is, and unless all is well what to do.

    A "note" is something that some commands can do without, a "problem" something that all need. `facts` are the
    same for programs.
    """

    name: str
    says: str
    state: State = "ok"
    remedy: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def gigabytes(size: float) -> str:
    """Return a size as people read it."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
