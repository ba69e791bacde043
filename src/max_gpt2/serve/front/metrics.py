"""What is counted, in Prometheus' format: the front's own numbers, then those of the worker."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from max_gpt2.serve.front.limits import Places

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Counters of one server."""

    def __init__(self, places: Places) -> None:
        """Make them; queue and places are read when somebody asks."""
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "max_gpt2_requests", "Requests by path and status", ["path", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "max_gpt2_request_seconds",
            "From the request to the end of its answer",
            ["path"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.first_text = Histogram(
            "max_gpt2_first_text_seconds", "To the first text of a stream", buckets=_SECONDS, registry=self._registry
        )
        self.prompt_tokens = Counter("max_gpt2_prompt_tokens", "Tokens of prompts", registry=self._registry)
        self.tokens = Counter("max_gpt2_completion_tokens", "Tokens that were written", registry=self._registry)
        self.gone = Counter("max_gpt2_clients_gone", "Clients that did not wait", registry=self._registry)
        self.restarts = Counter("max_gpt2_worker_restarts", "Restarts of the worker", registry=self._registry)
        self.ready = Gauge("max_gpt2_worker_ready", "1 while the worker can answer", registry=self._registry)
        for name, says, read in (
            ("max_gpt2_requests_in_house", "Requests that are not answered yet", lambda: places.requests),
            ("max_gpt2_texts_at_worker", "Texts that the worker writes", lambda: places.texts),
            ("max_gpt2_texts_waiting", "Texts that wait for a place at the worker", lambda: places.waiting),
        ):
            Gauge(name, says, registry=self._registry).set_function(read)

    def page(self) -> bytes:
        """Return the page that Prometheus reads."""
        return generate_latest(self._registry)
