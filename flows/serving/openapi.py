"""The server's interface as an OpenAPI 3.1 document, made of the classes that check requests and shape answers."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, TypeAdapter

from flows.serving.embeddings import EmbeddingsAnswer
from flows.serving.errors import ErrorBody
from flows.serving.protocol import ChatBody, CompletionBody, EmbeddingsBody
from flows.serving.responses import ResponsesBody
from flows.serving.shapes import AnswerBody, Health, ModelCard, ModelList
from flows.serving.trace import TraceAnswer, TraceBody
from infra.json_objects import JsonObject

__all__ = ["OPERATIONS", "Operation", "openapi"]

PLACE = "#/components/schemas/{model}"


@dataclass(frozen=True)
class Operation:
    """A route for programs."""

    method: str
    path: str
    told: str
    """What it is for."""
    body: type[BaseModel] | None = None
    answer: Any = None
    """The class of the answer's JSON; None where it is text or an object of OpenAI's that has none here."""
    streams: bool = False
    """Whether the answer may come as server-sent events."""


OPERATIONS = (
    Operation("post", "/v1/chat/completions", "An answer to a conversation.", ChatBody, AnswerBody, streams=True),
    Operation("post", "/v1/completions", "A text, or token ids, continued.", CompletionBody, AnswerBody, streams=True),
    Operation("post", "/v1/responses", "An answer as OpenAI's Responses API tells it.", ResponsesBody, streams=True),
    Operation("post", "/v1/embeddings", "Vectors of texts.", EmbeddingsBody, EmbeddingsAnswer),
    Operation("post", "/v1/trace", "The training documents that a text's spans stand in.", TraceBody, TraceAnswer),
    Operation("get", "/v1/models", "The version that is served, by its names.", answer=ModelList),
    Operation("get", "/v1/models/{name}", "The same by one of its names.", answer=ModelCard),
    Operation("get", "/health", "Whether requests can be served, and what is amiss; needs no key.", answer=Health),
    Operation("get", "/metrics", "Metrics for Prometheus."),
)


@cache
def openapi() -> JsonObject:
    """The whole document, made once: anybody may ask the server for it."""
    schemas: JsonObject = {}
    paths: JsonObject = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Deepmill", "version": version("deepmill")},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation, schemas: JsonObject) -> JsonObject:
    kind = "text/plain" if operation.path == "/metrics" else "application/json"
    shown = _reference(operation.answer, schemas, "serialization") if operation.answer else {}
    answer: JsonObject = {kind: {"schema": shown} if shown else {}}
    if operation.streams:
        answer["text/event-stream"] = {}
    failed = {"application/json": {"schema": _reference(ErrorBody, schemas, "serialization")}}
    found: JsonObject = {
        "summary": operation.told,
        "responses": {
            "200": {"description": "The answer.", "content": answer},
            "default": {"description": "What was wrong.", "content": failed},
        },
    }
    if operation.path != "/health":
        found["security"] = [{"key": []}]
    if "{name}" in operation.path:
        found["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
    if operation.body:
        body = _reference(operation.body, schemas, "validation")
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return found


def _reference(kind: Any, schemas: JsonObject, mode: Any) -> JsonObject:
    """A reference to the schema of a class, which is put among the schemas with those that it is made of."""
    schema = TypeAdapter(kind).json_schema(ref_template=PLACE, mode=mode)
    schemas.update(schema.pop("$defs", {}))
    schema.setdefault("description", inspect.getdoc(kind))
    schemas[kind.__name__] = schema
    return {"$ref": PLACE.format(model=kind.__name__)}
