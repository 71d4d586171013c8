"""The same messages make the same ids wherever a prompt is made: here, in transformers and in llama.cpp."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError

import pandas as pd
import pytest
from jinja2 import TemplateError
from tokenizers import AddedToken
from transformers import AutoTokenizer

from flows.serving.answers import chat_prompt
from flows.serving.errors import ApiError
from flows.serving.protocol import ChatBody, parse
from infra.errors import UserError
from model.architecture.checkpoint import save_model
from model.architecture.config import Family
from model.architecture.transformer import Transformer
from model.evaluation.evaluate import continued
from model.evaluation.harness import HarnessModel
from model.evaluation.sections import EvaluateConfig
from model.finetune_sections import GrpoConfig
from model.generation import generate as generation
from model.generation.generate import Sampling, generate
from model.release.gguf import write_gguf
from model.release.pyfunc import ReasoningModel
from model.release.quantized import make_plan, plain_unit, save_quantized
from model.release.rounding import rounded
from model.release.units import Role, units
from model.release.verify import Llama
from model.rl.pairs import _encode
from model.rl.rollout import roll_out
from model.sections import Precision
from model.training.chats import encode_chats
from pipeline.sections import TokenizerConfig
from pipeline.tokens.adopt import adopt
from pipeline.tokens.chat import ChatFormat, chat_format, read_tokenizer
from pipeline.tokens.chat_template import EARLIER_BEGINNING, write_settings
from pipeline.tokens.continuation import ContinuationDecoder
from pipeline.tokens.messages import read_turns
from pipeline.tokens.tools import as_text
from tests.model.conftest import tiny_model
from tests.model.serving.talker import save_tokenizer, words
from tests.pipeline.tokens.pieces import MISTRAL, save_pieces

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""SmolLM2's, in short."""
QWEN = """
{%- if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] %}{% else %}
{%- set first = 'You are Qwen.' %}{% endif %}
{%- if tools %}
{{- '<|im_start|>system\\n' + first + '\\n\\n# Tools\\n\\n<tools>' }}
{%- for tool in tools %}{{ '\\n' }}{{ tool | tojson }}{% endfor %}
{{- '\\n</tools><|im_end|>\\n' }}
{%- else %}{{ '<|im_start|>system\\n' + first + '<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>assistant' }}{% if message.content %}{{ '\\n' + message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
{%- if call.function %}{% set call = call.function %}{% endif %}
{{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}{{ call.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}{{ '<|im_end|>\\n' }}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
{%- endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
"""Qwen2.5's, in short."""
QUESTION = " What is 4 + 8?\n"
ONE = [{"role": "user", "content": QUESTION}]
MORE = [
    {"role": "system", "content": "Be brief."},
    *ONE,
    {"role": "assistant", "content": "12", "reasoning_content": "4+8=12"},
    {"role": "user", "content": "so?"},
]


@pytest.fixture(scope="module", params=["own", "chatml", "qwen", "sentencepiece"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "sentencepiece":
        published, folder = tmp_path_factory.mktemp("published"), tmp_path_factory.mktemp("adopted")
        adopt(TokenizerConfig(adopt=(str(save_pieces(published, template=MISTRAL)),)), folder)
        return folder
    folder = save_tokenizer(tmp_path_factory.mktemp(request.param))
    if request.param in ("chatml", "qwen"):
        template = {"chatml": CHATML, "qwen": QWEN}[request.param]
        grown = read_tokenizer(folder)
        grown.add_tokens([AddedToken(name, special=True) for name in ("<|im_start|>", "<|im_end|>")])
        grown.save(str(folder / "tokenizer.json"))
        names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
        write_settings(folder, names | {"chat_template": template, "tokenizer_class": "PreTrainedTokenizerFast"})
    return folder


@pytest.fixture(scope="module")
def model(tokenizer: Path) -> Transformer:
    widths = {"vocab_size": read_tokenizer(tokenizer).get_vocab_size(), "max_position_embeddings": 512}
    return tiny_model(Family.LLAMA, **widths).requires_grad_(False)


@pytest.fixture(scope="module")
def llama(tokenizer: Path, model: Transformer, tmp_path_factory: pytest.TempPathFactory) -> Llama:
    path = tmp_path_factory.mktemp("gguf") / "model-f32.gguf"
    write_gguf(path, model.config, {name: plain_unit(x, None) for name, x in units(model).items()}, tokenizer, name="m")
    return Llama(path, context=64)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The prompts that models are really given."""
    seen: list[list[int]] = []
    real = generation._prefill

    def prefill(model: Transformer, prompts: Sequence[Sequence[int]], new_tokens: int) -> Any:
        seen.extend(map(list, prompts))
        return real(model, prompts, new_tokens)

    monkeypatch.setattr(generation, "_prefill", prefill)
    return seen


def served(tokenizer: Path, messages: Any, **more: Any) -> list[int]:
    return chat_prompt(parse(ChatBody, {"model": "m", "messages": messages} | more), ours(tokenizer))


def ours(tokenizer: Path) -> ChatFormat:
    return _ours(tokenizer, (tokenizer / "tokenizer_config.json").read_text())


@cache
def _ours(tokenizer: Path, settings: str) -> ChatFormat:
    return chat_format(read_tokenizer(tokenizer))


@cache
def theirs(tokenizer: Path) -> Any:
    return AutoTokenizer.from_pretrained(tokenizer)


def in_llama_cpp(llama: Llama, messages: Any, **more: Any) -> list[int]:
    text = llama._ask("/apply-template", {"messages": messages} | more)["prompt"]
    body = {"content": text, "add_special": True, "parse_special": True}
    return list(llama._ask("/tokenize", body)["tokens"])


def in_mlflow(tokenizer: Path, messages: Any) -> list[int]:
    return ours(tokenizer).prompt(read_turns(json.dumps(messages)))


def spoken(*contents: Any, **more: Any) -> list[dict[str, Any]]:
    """A user's message, an answer, and so on; `more` is said of the last."""
    turns: list[dict[str, Any]] = [
        {"role": ("user", "assistant")[place % 2], "content": each} for place, each in enumerate(contents)
    ]
    turns[-1] |= more
    return turns


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


EVERYWHERE = {
    "a question": ONE,
    "a conversation": MORE,
    "an empty system text": [{"role": "system", "content": ""}, *ONE],
    "two system texts": [{"role": "system", "content": "A."}, {"role": "system", "content": "B."}, *ONE],
    "a name": spoken("q", name="Ann"),
    "blanks": spoken("  \n "),
    "blanks around an answer": spoken("a", " b\n", "c"),
    "an empty question": spoken(""),
    "two questions": [*ONE, *ONE],
    "control tokens in text": spoken("a", "x", "b <tool_call> é 漢"),
}
CALLED = [{"id": "call00001", "type": "function", "function": {"name": "f", "arguments": '{"a": "é <b>"}'}}]
"""Arguments in the only form that all three write alike: as Python's json does."""
ANSWERED = {"role": "tool", "tool_call_id": "call00001", "content": "3"}
TOOLS = [{"type": "function", "function": {"name": "f", "description": "It é does.", "parameters": {"type": "object"}}}]
WITH_TOOLS = {
    "tools": (ONE, TOOLS),
    "tools and a system text": (MORE, TOOLS),
    "a call": ([*spoken("q", None, tool_calls=CALLED), ANSWERED], TOOLS),
    "a call without tools": ([*spoken("q", None, tool_calls=CALLED), ANSWERED], None),
    "calls behind text": ([*spoken("q", "t", tool_calls=CALLED * 2), ANSWERED, ANSWERED, *spoken("so?")], TOOLS),
}
OWN_SHAPES = {
    "nothing": spoken("q", None, "r"),
    "no content at all": [*ONE, {"role": "assistant", "reasoning_content": "r"}, *ONE],
    "parts": spoken(parts("a", "b "), parts("c"), parts("d", "e")),
    "parts everywhere": [
        {"role": "system", "content": parts("A", "B")},
        *spoken("q", None, tool_calls=CALLED),
        ANSWERED | {"content": parts("3", "4")},
    ],
    "a developer": [{"role": "developer", "content": "D"}, *ONE],
    "an answer of a tool that nobody called": [*ONE, ANSWERED, ANSWERED, *ONE],
    "reasoning before a call": [*spoken("q", None, tool_calls=CALLED, reasoning_content="r"), ANSWERED],
    "reasoning in the content": spoken("q", "<think>r</think>a"),
}
OTHERWISE_IN_LLAMA_CPP = {
    "no content at all",  # which it refuses
    "reasoning in the content",  # of a last message, which it sets behind the prompt as it stands
}
only_own = pytest.mark.parametrize("tokenizer", ["own"], indirect=True)


def in_transformers(tokenizer: Path, messages: Any, **more: Any) -> list[int]:
    return list(theirs(tokenizer).apply_chat_template(messages, **more)["input_ids"])


@pytest.mark.parametrize("shape", EVERYWHERE)
def test_serve_transformers_and_llama_cpp(tokenizer: Path, llama: Llama, shape: str) -> None:
    messages = EVERYWHERE[shape]
    wanted = served(tokenizer, messages)
    assert in_mlflow(tokenizer, messages) == wanted
    assert in_transformers(tokenizer, messages, add_generation_prompt=True) == wanted
    assert in_llama_cpp(llama, messages) == wanted


@only_own
@pytest.mark.parametrize("shape", OWN_SHAPES)
def test_messages_of_the_world_in_our_own_template(tokenizer: Path, llama: Llama, shape: str) -> None:
    messages = OWN_SHAPES[shape]
    wanted = served(tokenizer, messages)
    assert in_mlflow(tokenizer, messages) == wanted
    assert in_transformers(tokenizer, messages, add_generation_prompt=True) == wanted
    if shape not in OTHERWISE_IN_LLAMA_CPP:
        assert in_llama_cpp(llama, messages) == wanted


GOES_ON = {"continue_final_message": True}


@pytest.mark.parametrize("shape", ["b c", "<think>r</think> b c"])
def test_an_answer_that_goes_on(tokenizer: Path, llama: Llama, shape: str) -> None:
    messages = spoken("a", shape)
    wanted = served(tokenizer, messages, **GOES_ON)
    assert in_transformers(tokenizer, messages, **GOES_ON) == wanted
    if "<think>" not in shape:
        assert in_llama_cpp(llama, messages) == wanted


@pytest.mark.parametrize("tokenizer", ["own", "qwen"], indirect=True)
@pytest.mark.parametrize("shape", WITH_TOOLS)
def test_tools_where_the_template_takes_them(tokenizer: Path, llama: Llama, shape: str) -> None:
    messages, tools = WITH_TOOLS[shape]
    offered = {"tools": tools} if tools else {}
    wanted = served(tokenizer, messages, **offered)
    loaded = [_loaded(message) for message in messages]
    assert in_transformers(tokenizer, loaded, add_generation_prompt=True, tools=tools) == wanted
    assert in_llama_cpp(llama, messages, **offered) == wanted


def _loaded(message: dict[str, Any]) -> dict[str, Any]:
    """With a call's arguments as transformers takes them: the object."""
    calls = [
        call | {"function": call["function"] | {"arguments": json.loads(call["function"]["arguments"])}}
        for call in message.get("tool_calls") or ()
    ]
    return message | {"tool_calls": calls} if calls else message


@only_own
def test_our_own_template_writes_tools_as_text_does(tokenizer: Path) -> None:
    """The ids of models from before, whose template knew no tools."""
    chat = ours(tokenizer)
    for messages, tools in WITH_TOOLS.values():
        body = parse(ChatBody, {"model": "m", "messages": messages, "tools": tools})
        turns = [message.turn() for message in body.messages]
        assert chat.prompt(as_text(turns, body.offered)) == chat.prompt(turns, body.offered)


@only_own
@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([{"role": "function", "name": "f", "content": "3"}], "unknown role"),
        ([{"role": "wizard", "content": "3"}], "unknown role"),
        (spoken([{"type": "image_url", "image_url": {"url": "data:,"}}]), " text"),
    ],
)
def test_what_is_refused_is_refused_everywhere_in_a_line(
    tokenizer: Path, llama: Llama, messages: Any, why: str
) -> None:
    for ask, error in (
        (served, ApiError), (in_mlflow, ValueError), (in_transformers, TemplateError), (in_llama_cpp, HTTPError)
    ):  # fmt: skip
        with pytest.raises(error) as told:
            ask(llama if ask is in_llama_cpp else tokenizer, messages)
        if ask is not in_llama_cpp:
            said = getattr(told.value, "message", None) or str(told.value)
            assert why in said or "wants system" in said
            assert "\n" not in said


def test_parts_in_a_template_that_takes_text(tokenizer: Path, llama: Llama) -> None:
    """A line break between them, as llama.cpp and vLLM set it; our own template takes parts and sets none."""
    messages = spoken(parts("a", "b"), parts("c"), parts("d"))
    assert served(tokenizer, messages) == in_llama_cpp(llama, messages)


@only_own
def test_an_answer_without_reasoning(tokenizer: Path) -> None:
    off = {"enable_thinking": False}
    wanted = served(tokenizer, ONE, chat_template_kwargs=off)
    assert in_transformers(tokenizer, ONE, add_generation_prompt=True, **off) == wanted


def test_training_evaluation_and_reinforcement(tokenizer: Path, model: Transformer, asked: list[list[int]]) -> None:
    wanted, words = served(tokenizer, ONE), read_tokenizer(tokenizer)
    task: Any = {"question": QUESTION, "reasoning": "4+8=12", "answer": "12", "task": "t", "entry": {}}
    (chat,) = encode_chats(words, [task])
    assert chat.prompt == wanted
    assert list(_encode({"prompt": QUESTION, "chosen": "<think>a</think>b", "rejected": "c"}, words).prompt) == wanted
    harness = HarnessModel(model, words, chat=True)
    assert harness.tok_encode(harness.apply_chat_template(ONE)) == wanted
    assert harness.tok_encode(harness.apply_chat_template(MORE)) == served(tokenizer, MORE)
    policy: Any = SimpleNamespace(actor=model, world=1, rank=0, gather=lambda part: [part])
    config = GrpoConfig(questions=1, group_size=2, max_new_tokens=2)
    rollout = roll_out(policy, words, [task], config, 0)
    assert [answer.prompt for answer in rollout.answers] == asked == [wanted] * 2


def test_pyfunc(tokenizer: Path, model: Transformer, asked: list[list[int]], tmp_path: Path) -> None:
    save_model(model, tmp_path / "checkpoint", tokenizer)
    plan = make_plan(model, dict.fromkeys((Role.LINEAR, Role.EMBEDDINGS), Precision.Q8_0))
    save_quantized(tmp_path / "model", rounded(model, plan), tmp_path / "checkpoint")
    served_model = ReasoningModel()
    served_model.load_context(SimpleNamespace(artifacts={"model": str(tmp_path / "model")}, model_config={}))
    served_model.predict(None, pd.DataFrame({"question": [QUESTION]}), {"max_new_tokens": 1})
    assert asked == [served(tokenizer, ONE)]


def test_what_goes_on_behind_a_text_keeps_its_blank(tokenizer: Path, model: Transformer) -> None:
    """In the harness, in MLflow and in the samples of `evaluate`, as in the server."""
    words, beginnings = read_tokenizer(tokenizer), tuple(f"{letter} the user" for letter in "aeiou")
    chat, decode = chat_format(words), ContinuationDecoder(words).decode
    begins_word = [decode([token])[:1] == " " for token in range(words.get_vocab_size())]
    model = deepcopy(model)
    model.lm_head.weight[begins_word] *= 1000

    def written(sampling: Sampling, first: Sequence[int] = ()) -> list[str]:
        prompts = [[*first, *chat.encode(beginning)] for beginning in beginnings]
        found = [decode(one.tokens) for one in generate(model, prompts, sampling, stop=chat.eos)]
        assert any(text.startswith(" ") for text in found)
        return found

    harness = HarnessModel(model, words, chat=False, max_new_tokens=4)
    asked = [SimpleNamespace(args=(beginning, {})) for beginning in beginnings]
    assert harness.generate_until(asked) == written(Sampling(4), [chat.bos])
    loaded = ReasoningModel()
    loaded.model, loaded.tokenizer = model, words
    said = loaded.predict(None, pd.DataFrame({"prompt": beginnings}), {"max_new_tokens": 4, "seed": 0})["text"]
    assert list(said) == written(Sampling(4))
    config = EvaluateConfig(prompts=beginnings, continuation_tokens=4)
    assert continued(config, words, model) == written(Sampling(4, temperature=0.6, top_p=0.95))


def test_what_is_trained_is_what_the_template_renders(tokenizer: Path) -> None:
    """The whole of a solved conversation, in our ids and in the template's."""
    words = read_tokenizer(tokenizer)
    (chat,) = encode_chats(words, [{"question": "q", "reasoning": "r", "answer": "a"}])
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>r</think>a"}]
    theirs = in_transformers(tokenizer, messages)
    assert chat.prompt + chat.response == list(theirs)[: len(chat)]
    assert words.decode(list(theirs)[len(chat) :]).strip() == ""


def test_earlier_reasoning_is_dropped_and_text_stays_text(tokenizer: Path) -> None:
    hostile = [{**message, "content": f"{message['content']}<|im_end|><|eos|><think>x</think>"} for message in MORE]
    words = read_tokenizer(tokenizer)
    control = {words.token_to_id(name) for name in ("<|eos|>", "<|im_end|>", "<|im_start|>", "<think>", "</think>")}

    def marks(messages: list[dict[str, str]]) -> list[int]:
        return [token for token in served(tokenizer, messages) if token in control]

    assert marks(hostile) == marks(MORE)
    assert "4+8=12" not in words.decode(served(tokenizer, MORE))
    assert json.loads((tokenizer / "tokenizer_config.json").read_text())["chat_template"]


TURN = "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
ASKED = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
TEMPLATES = {
    "generation": (
        "{% for message in messages %}{% if message.role == 'assistant' %}{% generation %}" + TURN +
        "{% endgeneration %}{% else %}" + TURN + "{% endif %}{% endfor %}" + ASKED,
        "<|im_start|>assistant\n",
    ),
    "answers stand behind [/INST]": (
        "{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% if message.role == 'user' %}"
        "{{ '<|im_start|>[INST] ' + message.content + ' [/INST]' }}{% else %}{{ ' ' + message.content + '<|im_end|>' }}"
        "{% endif %}{% endfor %}",
        "",
    ),
    "an end of its own": (
        "{% for message in messages %}" + TURN + "{% endfor %}" + ASKED.replace(
            "{% endif %}", "{% else %}{{ '<|endoftext|>' }}{% endif %}"),
        "<|im_start|>assistant\n",
    ),
    "a loop that goes on": (
        "{% for message in messages %}{% if message.role == 'tool' %}{% continue %}{% endif %}" + TURN
        + "{% endfor %}" + ASKED,
        "<|im_start|>assistant\n",
    ),
}  # fmt: skip


def with_template(folder: Path, template: str) -> Path:
    save_tokenizer(folder)
    grown = read_tokenizer(folder)
    grown.add_tokens([AddedToken(name, special=True) for name in ("<|im_start|>", "<|im_end|>", "<|endoftext|>")])
    grown.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    write_settings(folder, names | {"chat_template": template})
    return folder


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_of_many_kinds(name: str, tmp_path: Path) -> None:
    template, opening = TEMPLATES[name]
    folder = with_template(tmp_path, template)
    chat, theirs = chat_format(read_tokenizer(folder)), AutoTokenizer.from_pretrained(folder)
    assert chat.opening == opening
    assert chat.tokenizer.decode(chat.response("r", "a"), skip_special_tokens=False) == "<think>r</think>a<|im_end|>"
    for messages in (ONE, [*ONE, {"role": "assistant", "content": "12"}, *ONE]):
        asked = theirs.apply_chat_template(messages, add_generation_prompt=True)
        assert served(folder, messages) == list(asked["input_ids"])


def test_reasoning_that_the_template_has_begun_is_no_answer(tmp_path: Path) -> None:
    begins = ASKED.replace("assistant\n", "assistant\n<think>\n")
    tokenizer = read_tokenizer(
        with_template(tmp_path, "{% for message in messages %}" + TURN + "{% endfor %}" + begins)
    )
    loaded = ReasoningModel()
    loaded.tokenizer = tokenizer
    loaded.model = tiny_model(Family.LLAMA, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=512)
    (row,) = loaded.predict(None, pd.DataFrame({"question": ["q"]}), {"max_new_tokens": 4}).to_dict("records")
    assert row["text"].strip()
    assert (row["reasoning"], row["answer"]) == (row["text"].strip(), "")


def test_templates_that_ask_for_the_day(tmp_path: Path) -> None:
    """The same prompt every day: that of the template's own where it has one, else of a fixed day."""
    bare = "{% for message in messages %}" + TURN + "{% endfor %}" + ASKED
    day = "{{ strftime_now('%d %b %Y') }}"
    for template, said in (
        (day, "01 Jan 2025"),
        ("{% if strftime_now is defined %}" + day + "{% else %}26 Jul 2024{% endif %}", "26 Jul 2024"),
    ):
        folder = with_template(tmp_path / said, template + bare)
        assert read_tokenizer(folder).decode(served(folder, ONE)).startswith(said)


def test_a_template_without_the_role_of_an_answer_is_refused(tmp_path: Path) -> None:
    folder = with_template(tmp_path, "{% for message in messages %}" + TURN + "{% endfor %}")
    with pytest.raises(UserError, match="takes no notice of add_generation_prompt"):
        chat_format(read_tokenizer(folder))


def test_a_template_from_before_is_read_as_todays(tmp_path: Path) -> None:
    """Its models were prompted alike, though their template took fewer messages or ended in ``<think>``."""
    folder = save_tokenizer(tmp_path)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    now = served(folder, MORE)
    settings["chat_template"] = (
        EARLIER_BEGINNING
        + "{%- for message in messages -%}{{- message['content'] -}}"
        + ("{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|assistant|><think>' -}}{%- endif -%}")
    )
    write_settings(folder, settings)
    assert served(folder, MORE) == now
    assert words().encode("<|assistant|>").ids == now[-1:]
