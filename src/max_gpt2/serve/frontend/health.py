"""The health of the worker, with the reason if it is not ready."""

from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal

from max_gpt2.serve.frontend.errors import RefusedError, worker_lost

State = Literal["starting", "ready", "restarting", "stopping", "failed"]


@dataclass
class Health:
    """The state of the worker, set by the supervisor; `url` and `model` are valid while it is ready."""

    state: State = "starting"
    reason: str = "The worker is starting."
    url: str = ""
    model: str = ""
    metrics_url: str | None = None
    restarts: int = 0
    since: float = field(default_factory=monotonic)
    last_answer: float = field(default_factory=monotonic)

    def transition_to(self, state: State, reason: str = "") -> None:
        """Set the state and the reason for it."""
        self.state, self.reason, self.since = state, reason, monotonic()

    def address(self) -> tuple[str, str]:
        """Return the worker's URL and model; raises a 503 while the worker is not ready."""
        refusal = self.refusal()
        if refusal:
            raise refusal
        return self.url, self.model

    def refusal(self) -> RefusedError | None:
        """Return a 503 with the reason while the worker is not ready, otherwise None."""
        return None if self.state == "ready" else worker_lost(f"{self.reason} Retry later.")

    def answered(self) -> None:
        """Record that the worker has answered."""
        self.last_answer = monotonic()

    def to_json(self) -> dict[str, Any]:
        """Return the body of the response to /health."""
        return {
            "status": self.state,
            "reason": self.reason or None,
            "restarts": self.restarts,
            "seconds": round(monotonic() - self.since, 1),
        }
