"""Spans reach a collector that is named, and cost nothing where none is."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

PROGRAM = """
import sys
from infra import tracing
try:
    with tracing.span("run", {"deepmill.recipe": "tiny"}):
        with tracing.span("tokenizer", {"deepmill.identity": "abc"}) as span:
            if span is not None: span.set_attribute("deepmill.cached", True)
        raise ValueError("broken on purpose")
except ValueError:
    pass
tracing.flush()
print("opentelemetry" in sys.modules)
"""


def run(**variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=kept | variables, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.strip()


def test_a_collector_gets_a_run_with_its_stage() -> None:
    got: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        run(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans = {}
    for body in got:
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            spans |= {span.name: span for scope in group.scope_spans for span in scope.spans}
    assert set(spans) == {"run", "tokenizer"}
    assert spans["tokenizer"].parent_span_id == spans["run"].span_id
    assert spans["run"].status.message == "ValueError: broken on purpose"


def test_without_one_nothing_is_imported_and_one_that_is_away_harms_nobody() -> None:
    assert run() == "False"
    assert run(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") == "True"
