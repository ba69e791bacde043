"""Prometheus metrics of the frontend; /metrics appends those of the worker."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from max_gpt2.serve.frontend.admission import AdmissionLimiter

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The metrics of one server."""

    def __init__(self, admission: AdmissionLimiter) -> None:
        """Create the metrics; the gauges read `admission` whenever they are scraped."""
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "max_gpt2_requests", "Requests by path and status", ["path", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "max_gpt2_request_seconds",
            "Time from the request to the end of its response",
            ["path"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.time_to_first_token = Histogram(
            "max_gpt2_time_to_first_token_seconds",
            "Time to the first token of a stream",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.prompt_tokens = Counter("max_gpt2_prompt_tokens", "Prompt tokens", registry=self._registry)
        self.tokens = Counter("max_gpt2_completion_tokens", "Generated tokens", registry=self._registry)
        self.client_disconnects = Counter(
            "max_gpt2_client_disconnects", "Clients that disconnected early", registry=self._registry
        )
        self.restarts = Counter("max_gpt2_worker_restarts", "Restarts of the worker", registry=self._registry)
        self.ready = Gauge("max_gpt2_worker_ready", "1 while the worker is ready", registry=self._registry)
        for name, description, read in (
            ("max_gpt2_requests_in_flight", "Requests in flight", lambda: admission.requests),
            ("max_gpt2_sequences_running", "Sequences sent to the worker", lambda: admission.running),
            ("max_gpt2_sequences_waiting", "Sequences waiting for the worker", lambda: admission.waiting),
        ):
            Gauge(name, description, registry=self._registry).set_function(read)

    def page(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self._registry)
