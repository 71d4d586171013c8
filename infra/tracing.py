"""Traces to an OpenTelemetry collector, where ``OTEL_EXPORTER_OTLP_ENDPOINT`` names one: a span per run and per stage.

The usual ``OTEL_*`` variables say the rest (headers, service name). Without an endpoint nothing is imported; with one
that does not answer the run goes on.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from infra.errors import UserError

__all__ = ["flush", "span"]

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
FLUSH_MILLISECONDS = 3000


@lru_cache(maxsize=1)
def _provider() -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise UserError(
            f"{ENDPOINT} is set, but the exporter is not installed: pip install 'deepmill[cluster]'"
        ) from None
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    for name in ("opentelemetry.exporter", "opentelemetry.sdk"):  # a collector that is away is no news every second
        logging.getLogger(name).setLevel(logging.CRITICAL)
    provider = TracerProvider(
        resource=Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "deepmill")})
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=3)))
    return provider


@contextlib.contextmanager
def span(name: str, attributes: Mapping[str, Any]) -> Iterator[Any]:
    """A span around the block, below the one it is opened in; None where no collector is named.

    An error that leaves the block is recorded. Add what comes out of it with ``set_attribute``.
    """
    if not os.environ.get(ENDPOINT):
        yield None
        return
    with _provider().get_tracer("deepmill").start_as_current_span(name, attributes=dict(attributes)) as opened:
        yield opened


def flush() -> None:
    """Send what is waiting, at the end of a run."""
    if os.environ.get(ENDPOINT):
        _provider().force_flush(FLUSH_MILLISECONDS)
