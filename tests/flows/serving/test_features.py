"""What a request may ask for, on each engine that computes it: the rows of the table in docs/serving.md."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from model.serving.spec import EngineKind
from tests.flows.serving.live import Live, Shelf, live
from tests.model.serving.talker import ANSWER, QUESTION, THOUGHT, words

MESSAGES = [{"role": "user", "content": QUESTION}]
ASK: dict[str, Any] = {"model": "talker", "temperature": 0, "messages": MESSAGES}
PROMPT = f"<|bos|><|user|>{QUESTION}<|assistant|>"
TEXT: dict[str, Any] = {"model": "talker", "temperature": 0, "prompt": PROMPT}
SCHEMA = {
    "type": "object",
    "properties": {"a": {"enum": ["x", "y"]}, "b": {"type": "boolean"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("first", "second")]
AT_ONCE = {"reasoning_effort": "none"}


@pytest.fixture(scope="module")
def wide(talkers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The talker with room for tools in its prompt."""
    folder = tmp_path_factory.mktemp("wide") / "model"
    shutil.copytree(talkers["1"], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    return {"1": folder}


VLLM = pytest.param(
    EngineKind.VLLM,
    marks=[
        pytest.mark.drill,
        pytest.mark.timeout(600),  # of which it takes a minute to start
        pytest.mark.skipif(not os.environ.get("DEEPMILL_VLLM"), reason="DEEPMILL_VLLM names no vLLM"),
    ],
)


@pytest.fixture(scope="module", params=[EngineKind.LLAMA, EngineKind.OWN, VLLM], ids=str)
def each(
    request: pytest.FixtureRequest, wide: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    cache = tmp_path_factory.mktemp("features")
    with live(Shelf(wide), cache, engine=request.param, context=1024, new_tokens=200, concurrency=3) as server:
        yield server


@pytest.fixture(scope="module")
def client(each: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{each.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def kind(each: Live) -> EngineKind:
    assert each.manager.served is not None
    return EngineKind(each.manager.served.engine.spec.kind)


def chat(client: openai.OpenAI, **change: Any) -> Any:
    return client.chat.completions.create(**ASK | change).choices[0]


def test_logprobs_of_a_chat(client: openai.OpenAI) -> None:
    found = chat(client, logprobs=True, top_logprobs=3).logprobs
    assert "".join(each.token for each in found.content) == ANSWER
    assert "".join(each["token"] for each in found.model_extra["reasoning_content"]) == f"<think>{THOUGHT}</think>"
    for each in found.content:
        assert [each.token, each.logprob] == [each.top_logprobs[0].token, each.top_logprobs[0].logprob]
        assert bytes(each.bytes).decode() == each.token
        assert len(each.top_logprobs) == 3
        assert sum(math.exp(other.logprob) for other in each.top_logprobs) <= 1 + 1e-6
    pieces = client.chat.completions.create(**ASK, logprobs=True, stream=True)
    told = [
        each for piece in pieces for each in (piece.choices[0].logprobs and piece.choices[0].logprobs.content) or []
    ]
    assert [(each.token, round(each.logprob, 3)) for each in told] == [
        (each.token, round(each.logprob, 3)) for each in found.content
    ]
    assert told[0].top_logprobs == []


def test_logprobs_of_a_completion(client: openai.OpenAI) -> None:
    found = client.completions.create(**TEXT, logprobs=2, max_tokens=4).choices[0]
    assert "".join(found.logprobs.tokens) == found.text == "<think>4+8"
    assert found.logprobs.text_offset == [0, 7, 8, 9]
    assert [len(each) for each in found.logprobs.top_logprobs] == [2] * 4
    pieces = list(client.completions.create(**TEXT, logprobs=2, max_tokens=4, stream=True))
    offsets = [
        place for piece in pieces if piece.choices[0].logprobs for place in piece.choices[0].logprobs.text_offset
    ]
    assert offsets == found.logprobs.text_offset


def test_several_answers(client: openai.OpenAI) -> None:
    asked = {"n": 3, "seed": 5, "temperature": 1.5, "max_tokens": 8}
    found = client.chat.completions.create(**ASK | asked)
    again = client.chat.completions.create(**ASK | asked)
    said = [each.message.to_dict() for each in found.choices]
    assert said == [each.message.to_dict() for each in again.choices]
    assert [each.index for each in found.choices] == [0, 1, 2]
    alone = client.chat.completions.create(**ASK | asked | {"n": 1}).choices[0].message.to_dict()
    assert said[0] == alone
    assert found.usage.prompt_tokens == client.chat.completions.create(**ASK).usage.prompt_tokens
    assert found.usage.completion_tokens == 24
    streamed = [""] * 3
    for piece in client.chat.completions.create(**ASK | asked, stream=True):
        for choice in piece.choices:
            streamed[choice.index] += (choice.delta.model_extra or {}).get("reasoning_content") or ""
    assert streamed == [each["reasoning_content"] or "" for each in said]


def test_lists_of_prompts(client: openai.OpenAI) -> None:
    ids = words().encode(PROMPT, add_special_tokens=False).ids
    found = client.completions.create(**TEXT | {"prompt": [PROMPT, "8"], "n": 2, "max_tokens": 2})
    assert [each.text for each in found.choices] == ["<think>4"] * 2 + ["one two"] * 2
    assert found.usage.prompt_tokens == len(ids) + 1
    by_ids = client.completions.create(**TEXT | {"prompt": [ids, ids], "max_tokens": 2})
    assert [each.text for each in by_ids.choices] == ["<think>4"] * 2


def test_echo(client: openai.OpenAI) -> None:
    found = client.completions.create(**TEXT, echo=True, max_tokens=2).choices[0]
    assert found.text == f"{PROMPT}<think>4"
    pieces = client.completions.create(**TEXT, echo=True, max_tokens=2, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == found.text


def test_penalties_and_bias_change_what_is_said(client: openai.OpenAI) -> None:
    plain = client.completions.create(**TEXT, max_tokens=20).choices[0].text
    for change in ({"presence_penalty": 2.0}, {"frequency_penalty": 2.0}):
        changed = client.completions.create(**TEXT, max_tokens=20, **change, extra_body={"repetition_penalty": 2.0})
        assert changed.choices[0].text != plain
    eight, nine = (words().token_to_id(each) for each in "84")
    pushed = client.completions.create(**TEXT, max_tokens=3, logit_bias={str(eight): 100, str(nine): -100})
    assert pushed.choices[0].text == "888"


def test_narrow_choices(client: openai.OpenAI) -> None:
    wild = {"temperature": 2.0, "max_tokens": 20}
    for narrow in ({"top_k": 1}, {"min_p": 1.0}):
        for seed in range(3):
            found = client.completions.create(**TEXT | wild, seed=seed, extra_body=narrow)
            assert found.choices[0].text == f"<think>{THOUGHT}</think>{ANSWER}"[: len(found.choices[0].text)]


def test_json_of_a_schema_after_the_reasoning(client: openai.OpenAI) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "ab", "schema": SCHEMA, "strict": True}}
    found = chat(client, response_format=wanted)
    assert set(json.loads(found.message.content)) == {"a", "b"}
    assert found.message.model_extra["reasoning_content"] == THOUGHT
    at_once = chat(client, response_format=wanted, **AT_ONCE)
    assert set(json.loads(at_once.message.content)) == {"a", "b"}
    assert at_once.message.model_extra["reasoning_content"] is None
    wild = chat(client, response_format=wanted, temperature=2.0, seed=1, **AT_ONCE)
    assert json.loads(wild.message.content)["a"] in ("x", "y")


def test_json_of_any_kind(client: openai.OpenAI) -> None:
    found = chat(client, response_format={"type": "json_object"}, max_tokens=30)
    assert found.message.content.startswith("{")


def test_a_schema_that_cannot_be_held_is_told(client: openai.OpenAI) -> None:
    for schema in ({"type": "nonsense"}, {"type": "string", "pattern": "(?=a)b"}, {"$ref": "http://elsewhere/x"}):
        with pytest.raises(openai.BadRequestError, match="response_format") as told:
            chat(client, response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})
        assert told.value.param == "response_format"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "second"}}], ids=str)
def test_tools_that_have_to_be_called(client: openai.OpenAI, choice: Any) -> None:
    asked = {"tools": TOOLS, "tool_choice": choice, "parallel_tool_calls": False, **AT_ONCE}
    found = chat(client, **asked)
    (call,) = found.message.tool_calls
    assert (found.finish_reason, found.message.content) == ("tool_calls", None)
    assert set(json.loads(call.function.arguments)) == {"a", "b"}
    assert call.function.name == "second" or choice == "required"
    pieces = client.chat.completions.create(**ASK | asked, stream=True)
    deltas = [each for piece in pieces for each in piece.choices[0].delta.tool_calls or []]
    assert [(each.index, each.function.name) for each in deltas] == [(0, call.function.name)]
    assert "".join(each.function.arguments for each in deltas) == call.function.arguments


def test_tools_that_need_not_be_called(client: openai.OpenAI) -> None:
    free = chat(client, tools=TOOLS, max_tokens=12)
    assert free.message.tool_calls is None
    none = chat(client, tools=TOOLS, tool_choice="none")
    assert none.message.content == ANSWER
    strict = [{"type": "function", "function": each["function"] | {"strict": True}} for each in TOOLS]
    assert chat(client, tools=strict, max_tokens=12, **AT_ONCE).finish_reason in ("stop", "length", "tool_calls")


def test_what_a_tool_answered_is_read(client: openai.OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "first", "arguments": '{"a": "x", "b": true}'}}
    asked = [*MESSAGES, {"role": "assistant", "content": None, "tool_calls": [call]}]
    found = client.chat.completions.create(
        **ASK | {"messages": [*asked, {"role": "tool", "tool_call_id": "call_1", "content": "16"}]}, max_tokens=4
    )
    short = client.chat.completions.create(**ASK, max_tokens=4)
    assert found.usage.prompt_tokens > short.usage.prompt_tokens + 60


def test_prompts_that_begin_alike_are_read_once(client: openai.OpenAI, kind: EngineKind) -> None:
    """And say the same."""
    long = "one two three four five six seven eight " * (40 if kind is EngineKind.VLLM else 8)
    fresh = client.completions.create(**TEXT | {"prompt": f"{long}{PROMPT}", "max_tokens": 24})
    again = client.completions.create(**TEXT | {"prompt": f"{long}{PROMPT}", "max_tokens": 24})
    other = client.completions.create(**TEXT | {"prompt": f"{long}one", "max_tokens": 24})
    assert fresh.choices[0].text == again.choices[0].text
    if kind is EngineKind.VLLM:  # by blocks, of 128 tokens where it computes on a CPU
        assert again.usage.prompt_tokens_details.cached_tokens >= 128
        return
    assert again.usage.prompt_tokens_details.cached_tokens == again.usage.prompt_tokens - 1
    assert other.usage.prompt_tokens_details.cached_tokens > 60


def test_embeddings(client: openai.OpenAI, each: Live, kind: EngineKind) -> None:
    """The official client asks for base64."""
    if not kind.embeds:
        with pytest.raises(openai.BadRequestError, match="vllm makes no embeddings here; serve with --engine llama"):
            client.embeddings.create(model="talker", input=[QUESTION])
        return
    texts = [QUESTION, "Calculate 4 + 4 + 4.", "one two three"]
    found = client.embeddings.create(model="talker", input=texts)
    assert [len(one.embedding) for one in found.data] == [64] * 3
    first, second, third = (one.embedding for one in found.data)
    assert sum(a * a for a in first) == pytest.approx(1, abs=1e-4)
    assert sum(a * b for a, b in zip(first, second, strict=True)) > sum(
        a * b for a, b in zip(first, third, strict=True)
    )
    ids = words().encode(QUESTION, add_special_tokens=False).ids
    plain = client.embeddings.create(model="talker", input=[ids], encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(first, abs=1e-5)
    assert found.usage.prompt_tokens > len(ids)
    with each.client() as http:
        for wrong in ([], [""], "", [[5, 999_999]], {"a": 1}):
            answer = http.post("/v1/embeddings", json={"model": "talker", "input": wrong})
            assert (answer.status_code, answer.json()["error"]["param"].split(".")[0]) == (400, "input")
        more = {"model": "talker", "input": "a", "dimensions": 8}
        assert http.post("/v1/embeddings", json=more).json()["error"]["param"] == "dimensions"


def test_how_likely_a_prompt_is(client: openai.OpenAI, kind: EngineKind) -> None:
    """As lm-eval asks it; llama.cpp does not say, vLLM is not asked, and that is said."""
    asked = TEXT | {"echo": True, "logprobs": 1, "max_tokens": 0}
    if not kind.tells_of_prompts:
        with pytest.raises(openai.BadRequestError, match="--engine own"):
            client.completions.create(**asked)
        return
    found = client.completions.create(**asked).choices[0]
    assert found.text == "".join(found.logprobs.tokens) == PROMPT
    assert found.logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in found.logprobs.token_logprobs[1:])
    assert found.logprobs.token_logprobs[-1] > -0.1  # what it was taught
    longer = client.completions.create(**asked | {"max_tokens": 2}).choices[0]
    assert "".join(longer.logprobs.tokens) == longer.text == f"{PROMPT}<think>4"


def test_answers_without_reasoning_stream(client: openai.OpenAI) -> None:
    """A model that thinks nothing is told word by word all the same."""
    pieces = list(client.chat.completions.create(**ASK | AT_ONCE, stream=True, max_tokens=6))
    assert sum(bool(piece.choices[0].delta.content) for piece in pieces if piece.choices) > 3
