"""Requests as clients sent them to this server, word for word (2026-11-27), by client and by what was asked of it.

langchain-openai 1.7.4, llama-index-llms-openai-like 0.8.1, litellm 1.110.2; Open WebUI's from its source. The official
client is no record: it runs in the tests.
"""

from __future__ import annotations

from typing import Any

QUESTION = "Calculate 4 + 8 + 4."
PROMPT = f"<|bos|><|user|>{QUESTION}<|assistant|>"
USER = [{"role": "user", "content": QUESTION}]
PLAIN = {"a": {"enum": ["x", "y"], "type": "string"}, "b": {"type": "boolean"}}
TITLED = {"a": {"enum": ["x", "y"], "title": "A", "type": "string"}, "b": {"title": "B", "type": "boolean"}}
PYDANTIC = {
    "properties": TITLED,
    "required": ["a", "b"],
    "title": "A",
    "type": "object",
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"schema": PYDANTIC, "name": "A", "strict": True}}
BARE = {"properties": PLAIN, "required": ["a", "b"], "type": "object"}
CALL = {"type": "function", "id": "call_1", "function": {"name": "f", "arguments": '{"a": "x"}'}}
CHAT, TEXT, VECTORS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"


def tool(name: str, parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "A tool.", "parameters": parameters, **more}}


ONE = {"properties": {"a": PLAIN["a"]}, "required": ["a"], "type": "object"}
LANGCHAIN: dict[str, Any] = {"model": "talker", "stream": False, "messages": USER, "temperature": 0.0}
LLAMA_INDEX: dict[str, Any] = {"messages": USER, "model": "talker", "stream": False, "temperature": 0.0}
LITELLM: dict[str, Any] = {"model": "talker", "messages": USER, "temperature": 0}
WEBUI: dict[str, Any] = {"stream": True, "model": "talker", "messages": USER}

RECORDED: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("LangChain", "chat"): (CHAT, LANGCHAIN),
    ("LangChain", "stream"): (CHAT, LANGCHAIN | {"stream": True}),
    ("LangChain", "logprobs"): (CHAT, LANGCHAIN | {"logprobs": True, "top_logprobs": 2}),
    ("LangChain", "JSON Schema"): (CHAT, LANGCHAIN | {"response_format": FORMAT}),
    ("LangChain", "tools"): (CHAT, LANGCHAIN | {"tools": [tool("f", ONE)]}),
    ("LangChain", "tool_choice"): (
        CHAT,
        LANGCHAIN
        | {
            "parallel_tool_calls": False,
            "tool_choice": {"type": "function", "function": {"name": "A"}},
            "tools": [tool("A", BARE)],
        },
    ),
    ("LangChain", "tool messages"): (
        CHAT,
        LANGCHAIN
        | {
            "messages": [
                *USER,
                {"content": None, "role": "assistant", "tool_calls": [CALL]},
                {"content": "x", "role": "tool", "tool_call_id": "call_1"},
            ],
            "tools": [tool("f", ONE)],
        },
    ),
    ("LangChain", "completions"): (
        TEXT,
        {
            "model": "talker",
            "prompt": [PROMPT],
            "frequency_penalty": 0,
            "logprobs": None,
            "max_tokens": 5,
            "n": 1,
            "presence_penalty": 0,
            "seed": None,
            "temperature": 0.0,
            "top_p": 1,
        },
    ),
    ("LangChain", "embeddings"): (VECTORS, {"model": "talker", "input": ["4 + 8"], "encoding_format": "base64"}),
    ("LangChain", "responses"): (
        RESPONSES,
        {
            "model": "talker",
            "stream": False,
            "input": [{"content": QUESTION, "role": "user", "type": "message"}],
            "temperature": 0.0,
            "text": {"format": {"type": "json_schema", "strict": True, "name": "A", "schema": PYDANTIC}},
        },
    ),
    ("LangChain", "responses, streamed"): (
        RESPONSES,
        {
            "model": "talker",
            "stream": True,
            "input": [{"content": QUESTION, "role": "user", "type": "message"}],
            "temperature": 0.0,
        },
    ),
    ("LlamaIndex", "chat"): (CHAT, LLAMA_INDEX),
    ("LlamaIndex", "stream"): (CHAT, LLAMA_INDEX | {"stream": True}),
    ("LlamaIndex", "JSON Schema"): (CHAT, LLAMA_INDEX | {"response_format": FORMAT}),
    ("LlamaIndex", "tools"): (
        CHAT,
        LLAMA_INDEX
        | {
            "parallel_tool_calls": False,
            "tool_choice": "auto",
            "tools": [tool("f", ONE | {"additionalProperties": False}, strict=False)],
        },
    ),
    ("LlamaIndex", "completions"): (
        TEXT,
        {"model": "talker", "prompt": PROMPT, "stream": False, "temperature": 0.0},
    ),
    ("LiteLLM", "chat"): (CHAT, LITELLM),
    ("LiteLLM", "stream"): (CHAT, LITELLM | {"stream": True}),
    ("LiteLLM", "usage in a stream"): (CHAT, LITELLM | {"stream": True, "stream_options": {"include_usage": True}}),
    ("LiteLLM", "n"): (CHAT, LITELLM | {"n": 2}),
    ("LiteLLM", "JSON Schema"): (CHAT, LITELLM | {"response_format": FORMAT}),
    ("LiteLLM", "tool_choice"): (
        CHAT,
        LITELLM | {"tools": [tool("f", BARE)], "tool_choice": "required", "reasoning_effort": "none"},
    ),
    ("LiteLLM", "completions"): (TEXT, {"model": "talker", "prompt": PROMPT, "max_tokens": 5, "temperature": 0}),
    ("LiteLLM", "embeddings"): (VECTORS, {"model": "talker", "input": ["4 + 8"]}),
    ("LiteLLM", "responses"): (RESPONSES, {"model": "talker", "input": QUESTION, "temperature": 0}),
    ("Open WebUI", "chat"): (CHAT, WEBUI | {"stream": False, "max_completion_tokens": 1000}),  # titles, tags
    ("Open WebUI", "stream"): (CHAT, WEBUI),
    ("Open WebUI", "usage in a stream"): (CHAT, WEBUI | {"stream_options": {"include_usage": True}}),
}
