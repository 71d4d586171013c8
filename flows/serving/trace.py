"""``POST /v1/trace``: the training documents that the longest spans of a text stand in, word for word."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from flows.serving.errors import ApiError
from flows.serving.limits import Admission
from flows.serving.model_manager import Served
from infra.errors import UserError
from pipeline.index.spans import SourceName

__all__ = ["TraceAnswer", "TraceBody", "trace"]


class TraceBody(BaseModel):
    """``POST /v1/trace``."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    model: str = Field(max_length=300)
    text: str
    min_words: int = Field(5, ge=1)
    """Fewest words of a span."""
    documents: int = Field(5, ge=1, le=100)
    """Most documents named of a span."""


class TracedSpan(TypedDict):
    """A span, in characters of the text."""

    begin: int
    end: int
    text: str
    words: int
    places: int
    """Where it stands in the training tokens, all documents together."""
    documents: list[SourceName]


class TraceAnswer(TypedDict):
    """The spans, in the order of the text."""

    object: str
    model: str
    spans: list[TracedSpan]


async def trace(body: TraceBody, admission: Admission, served: Served, deadline: float) -> TraceAnswer:
    """The spans of a request's text.

    Raises:
        ApiError: the version's training tokens have no index at hand (404), the text is too short or too long (400), or
            no turn came.
    """
    sources = served.sources
    if sources is None:
        why = "its training tokens have no index at hand; add `index: {}` to the recipe, run it and serve again"
        raise ApiError(404, f"{served.version.label}: {why}", code="no_index")
    try:
        async with asyncio.timeout_at(deadline), admission.turn():
            spans = await asyncio.to_thread(sources.find, body.text, min_words=body.min_words, documents=body.documents)
    except TimeoutError:
        raise ApiError(504, "it took longer than a request may; send a shorter text", code="timeout") from None
    except UserError as error:
        raise ApiError(400, str(error), param="text") from None
    return {
        "object": "trace",
        "model": served.version.label,
        "spans": [
            {
                "begin": span.begin,
                "end": span.end,
                "text": span.text,
                "words": span.words,
                "places": span.places,
                "documents": list(span.documents),
            }
            for span in spans
        ],
    }
