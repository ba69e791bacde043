"""The health of the worker, with the reason if it cannot answer."""

from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal

from max_gpt2.serve.frontend.errors import RefusedError, worker_lost

State = Literal["starting", "ready", "restarting", "stopping", "failed"]


@dataclass
class Health:
    """The supervisor writes it, everybody reads it. `url` and `model` are the worker's while it is ready."""

    state: State = "starting"
    reason: str = "The worker is starting."
    url: str = ""
    model: str = ""
    metrics_url: str | None = None
    restarts: int = 0
    since: float = field(default_factory=monotonic)
    last_answer: float = field(default_factory=monotonic)

    def transition_to(self, state: State, reason: str = "") -> None:
        """Go over to another state."""
        self.state, self.reason, self.since = state, reason, monotonic()

    def address(self) -> tuple[str, str]:
        """Return the worker's URL and model; raises a 503 while there is none."""
        refusal = self.refusal()
        if refusal:
            raise refusal
        return self.url, self.model

    def refusal(self) -> RefusedError | None:
        """Return the 503 that says why nothing can be answered now, None when it can."""
        return None if self.state == "ready" else worker_lost(f"{self.reason} Send the request again later.")

    def answered(self) -> None:
        """Take note that the worker did something."""
        self.last_answer = monotonic()

    def to_json(self) -> dict[str, Any]:
        """Return what /health says."""
        return {
            "status": self.state,
            "reason": self.reason or None,
            "restarts": self.restarts,
            "seconds": round(monotonic() - self.since, 1),
        }
