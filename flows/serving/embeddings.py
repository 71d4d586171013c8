"""``POST /v1/embeddings``: vectors of texts, from the model that is served.

They are the last hidden states of the texts' last tokens, of length 1. The model was trained to continue text and not
to compare texts: good enough to find what is alike, no match for a model made for it.
"""

from __future__ import annotations

import asyncio
import base64
import struct

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from flows.serving.answers import not_served, text_tokens
from flows.serving.errors import ApiError
from flows.serving.limits import Admission
from flows.serving.model_manager import ModelManager
from flows.serving.protocol import EmbeddingsBody
from model.serving.engine import EngineError, EngineRefusedError
from model.serving.spec import EngineKind

__all__ = ["EmbeddingsAnswer", "embed"]


class Embedding(TypedDict):
    """Of one text."""

    object: str
    index: int
    embedding: list[float] | str
    """In base64: 32-bit floats, the lowest byte first."""


class EmbeddingsUsage(TypedDict):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(TypedDict):
    """The vectors."""

    object: str
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


async def embed(body: EmbeddingsBody, admission: Admission, manager: ModelManager, deadline: float) -> EmbeddingsAnswer:
    """The vectors of a request's texts, in their order.

    Raises:
        ApiError: a text is empty or too long, the engine makes no vectors (400), no turn came, or the engine fails.
    """
    try:
        async with asyncio.timeout_at(deadline), admission.turn(), manager.engine(deadline) as served:
            if not served.answers_to(body.model):
                raise not_served(body.model, served)
            kind = EngineKind(served.engine.spec.kind)
            if not kind.embeds:
                raise ApiError(400, f"{kind} makes no embeddings here; serve with --engine llama or own", param="model")
            texts = [text_tokens(text, served.chat, "input") for text in body.texts]
            if not all(1 <= len(text) <= served.context for text in texts):
                raise ApiError(400, f"input: a text has 1 to {served.context} tokens", param="input")
            vectors = await served.engine.embed(texts)
    except TimeoutError:
        raise ApiError(504, "the vectors took longer than a request may; send fewer texts", code="timeout") from None
    except EngineRefusedError as error:
        raise ApiError(400, f"input: {error}", param="input") from None
    except EngineError as error:
        raise ApiError(502, str(error), code="engine_error") from None
    count = sum(map(len, texts))
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": place, "embedding": _encoded(vector, body.encoding_format)}
            for place, vector in enumerate(vectors)
        ],
        "model": served.version.label,
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }


def _encoded(vector: list[float], kind: str) -> list[float] | str:
    return vector if kind == "float" else base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
