"""What Prometheus scrapes."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "deepmill_requests", "Requests by route and status.", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "deepmill_request_seconds", "From arrival to end.", ("route",), registry=self.registry, buckets=SECONDS
        )
        self.first_token = Histogram(
            "deepmill_first_token_seconds", "From arrival to the first text.", registry=self.registry, buckets=SECONDS
        )
        self.tokens = Counter("deepmill_tokens", "Tokens by kind.", ("kind",), registry=self.registry)
        self.running = Gauge("deepmill_requests_running", "Requests computed now.", registry=self.registry)
        self.waiting = Gauge("deepmill_requests_waiting", "Requests in line.", registry=self.registry)
        self.model = Gauge("deepmill_model", "1 for the version served.", ("model", "version"), registry=self.registry)
        self.swaps = Counter("deepmill_model_swaps", "Times another version took over.", registry=self.registry)
        self.restarts = Counter("deepmill_engine_restarts", "Times the engine had died.", registry=self.registry)
        self.alias = Gauge(
            "deepmill_alias_resolves", "0 while the followed alias names no version.", registry=self.registry
        )

    def serving(self, model: str, version: str) -> None:
        """Note which version is served now."""
        self.model.clear()
        self.model.labels(model, version).set(1)

    def text(self) -> bytes:
        """The page."""
        return generate_latest(self.registry)
