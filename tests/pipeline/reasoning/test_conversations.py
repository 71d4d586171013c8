"""Conversations from files: what is kept of a record, what is rejected and why, and that nothing held out is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import UserError
from pipeline.reasoning.chat_texts import UNCERTAIN
from pipeline.reasoning.chats import ConversationsMetrics, read_conversations, turns_of
from pipeline.reasoning.conversations import conversations
from pipeline.reasoning.problems import Problem, write_tasks
from pipeline.sections import ConversationsConfig


def said(*texts: Any, **more: Any) -> dict[str, Any]:
    """A record in which a person and the assistant speak in turn; `more` is said of the last message."""
    turns: list[dict[str, Any]] = [
        {"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)
    ]
    turns[-1] |= more
    return {"messages": turns}


@pytest.fixture(scope="module")
def reasoning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reasoning")
    row = Problem(id="x", task="t", question="What is 2 + 2?", reasoning="", answer="4", metadata={})
    for split in ("validation", "test"):
        write_tasks(folder / f"{split}.jsonl", [row])
    return folder


def _made(reasoning: Path, folder: Path, rows: list[Any], **changes: Any) -> ConversationsMetrics:
    file = folder / "talk.jsonl"
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    config = ConversationsConfig.model_validate({"files": (str(file),), "validation": 0, "max_failures": 1} | changes)
    return conversations(config, {"reasoning": reasoning}, folder)


SYSTEM = {"role": "developer", "content": "Be short."}
PARTS = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
HELLO = [("user", "Hi"), ("assistant", "Hello!")]
GREETED = [("user", "Hi"), ("assistant", "Hello!", "A greeting.")]
SHAREGPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]
FINAL = {"role": "assistant", "content": "Hello!", "channel": "final"}
BAD, BEST = {"text": "Go away.", "rank": 1}, {"text": "Hello!", "rank": 0}
FOLLOWS = {"text": "b", "role": "prompter", "replies": [{"text": "c", "role": "assistant", "replies": []}]}
GONE = {"text": "Best!", "rank": -1, "role": "assistant", "deleted": True, "replies": []}
TREE = {
    "message_tree_id": "1",
    "prompt": {
        "text": "Hi",
        "role": "prompter",
        "replies": [
            GONE,
            BAD | {"role": "assistant", "replies": []},
            BEST | {"role": "assistant", "replies": [FOLLOWS]},
        ],
    },
}
CALL = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("record", "kept"),
    [
        (said("Hi", "Hello!"), HELLO),
        (said("Hi", "Hello!", "and then nobody answers"), HELLO),
        ({"messages": [SYSTEM, *said("a", "b")["messages"]]},
         [("system", "Be short."), ("user", "a"), ("assistant", "b")]),
        (said("Hi", "Hello!", reasoning_content="A greeting."), GREETED),
        (said("Hi", "Hello!", reasoning="A greeting."), GREETED),
        (said("Hi", "<think>\nA greeting.\n</think>\n\nHello!"), GREETED),
        (said("Hi", "</think> ends it"), [("user", "Hi"), ("assistant", "</think> ends it")]),
        ({"messages": [{"role": "user", "content": PARTS}, {"role": "assistant", "content": "b"}]},
         [("user", "Hello"), ("assistant", "b")]),
        (said("a", "b", "c", "", tool_calls=CALL), [("user", "a"), ("assistant", "b")]),
        (said("half \ud800", "b"), [("user", "half \ufffd"), ("assistant", "b")]),
        ({"conversations": SHAREGPT}, HELLO),
        ({"conversations": [*SHAREGPT[1:], *SHAREGPT]}, HELLO),
        ({"conversations": SHAREGPT, "system": "Be short."}, [("system", "Be short."), *HELLO]),
        ({"conversations": [*SHAREGPT, *SHAREGPT[:1], {"from": "function_call", "value": "{}"}]}, HELLO),
        ({"messages": json.dumps(said("Hi", "Hello!")["messages"])}, HELLO),
        ({"messages": {"role": ["User", "ASSISTANT"], "content": ["Hi", "Hello!"]}}, HELLO),
        ({"prompt": said("Hi")["messages"], "completion": [{"role": "model", "content": "Hello!"}]}, HELLO),
        ({"messages": [{"role": "system", "content": ""}, *said("Hi", ["Hel", "lo!"])["messages"]]}, HELLO),
        (said("Hi", [{"type": "thinking", "thinking": "A greeting."}, {"type": "text", "text": "Hello!"}]), GREETED),
        (said("Hi", "A greeting.\n</think>\n\nHello!"), GREETED),
        (said("Hi", "Hello!", thinking="A greeting."), GREETED),
        (said("Hi", "Hello!", "and", ""), HELLO),
        ({"instruction": "Hi", "input": "", "output": "Hello!"}, HELLO),
        ({"instruction": "Add.", "input": "1, 2", "output": "3", "prompt": "### Instruction: Add."},
         [("user", "Add.\n\n1, 2"), ("assistant", "3")]),
        ({"instruction": "Who?", "context": "I am Ada.", "response": "Ada", "category": "qa"},
         [("user", "Who?\n\nI am Ada."), ("assistant", "Ada")]),
        ({"instruction": "c", "output": "d", "system": "Be short.", "history": [["a", "b"]]},
         [("system", "Be short."), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]),
        ({"prompt": "Hi", "completion": "Hello!", "label": True}, HELLO),
        ({"system_prompt": "Be short.", "question": "Hi", "response": "Hello!"}, [("system", "Be short."), *HELLO]),
        ({"id": "0", "data": ["Hi", "Hello!", "and then nobody answers"]}, HELLO),
        ({"tools": [{"type": "function"}], **said("Hi", "Hello!", weight=1, name="bot")}, HELLO),
        ({"prompt": "Hi", "system_prompt": "x", **said("Hi", "Hello!")}, HELLO),
        ({"messages": str(said("Hi", "Hello!")["messages"])}, HELLO),
        ({"conversations": [{"role": None, "content": None, **turn} for turn in SHAREGPT]}, HELLO),
        ({"messages": [{"role": " User", "content": "Hi"}, {"role": "gpt-4", "content": "Hello!"}]}, HELLO),
        ({"messages": [*said("a")["messages"], *said("b", "c")["messages"], *said("", "d")["messages"][1:]]},
         [("user", "a\n\nb"), ("assistant", "c\n\nd")]),
        ({"messages": [*said("a", "b")["messages"], SYSTEM, *said("c", "d")["messages"]]},
         [("user", "a"), ("assistant", "b"), ("system", "Be short."), ("user", "c"), ("assistant", "d")]),
        (said("Hi", "Hello!")["messages"], HELLO),
        ({"messages": [*said("Hi", "A greeting.", channel="analysis")["messages"], FINAL]}, GREETED),
        ({"messages": [*said("Hi", "Wait.", channel="commentary")["messages"], FINAL]}, HELLO),
        ({"messages": [*said("Hi", "Hello!", "x", "{}", channel="commentary", recipient="f")["messages"]]}, HELLO),
        ({"text": "### Human: Hi### Assistant: Hello!"}, HELLO),
        ({"text": "Human: Hi\n\nAssistant: Hello!\n\nHuman: unanswered"}, HELLO),
        ({"text": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"}, HELLO),
        ({"text": "<s>[INST] <<SYS>>\nBe short.\n<</SYS>>\n\nHi [/INST] Hello! </s>"},
         [("system", "Be short."), *HELLO]),
        ({"text": "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant"
          "<|end_header_id|>\n\nHello!<|eot_id|>"}, HELLO),
        ({"text": "<|start|>user<|message|>Hi<|end|><|start|>assistant<|channel|>analysis<|message|>A greeting.<|end|>"
          "<|start|>assistant<|channel|>final<|message|>Hello!<|return|>"}, GREETED),
        (TREE, [*HELLO, ("user", "b"), ("assistant", "c")]),
        ({"image": None, "images": [], **said("Hi", "Hello!", tool_calls=[], channel="final")}, HELLO),
    ],
)  # fmt: skip
def test_what_is_kept_of_a_record(
    reasoning: Path, tmp_path: Path, record: dict[str, Any], kept: list[tuple[str, ...]]
) -> None:
    _made(reasoning, tmp_path, [record])
    (row,) = read_conversations(tmp_path / "train.jsonl")
    assert [
        tuple(turn.get(key, "") for key in ("role", "content", "reasoning") if key in turn) for turn in row["messages"]
    ] == kept


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ("{", "no JSON"),
        ({"text": "a"}, "no list of messages"),
        ({"messages": []}, "no list of messages"),
        ({"messages": [{"content": "a"}]}, "a message without a role that is known"),
        ({"messages": [{"role": "wizard", "content": "a"}]}, "a message of the role 'wizard'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "content that is no text"),
        (said("a", "  "), "an empty message of the assistant"),
        (said("a"), "no answer"),
        (said("a", "b", weight=0), "no answer"),
        (said("a", "b", weight=0.5), "a weight that is neither 0 nor 1"),
        (said("a", "<think>b"), "a <think> that never ends"),
        (said("a", [{"type": "image_url", "text": "b"}]), "content that is no text"),
        ("null", "no list of messages"),
        (said("a", "", tool_calls=CALL), "no answer"),
        ({"messages": [{"role": "assistant", "content": "b"}]}, "an answer before any question"),
        (said("what is 2 +  2?", "4"), "asks a held-out question"),
        ({"prompt": "What is 2 + 2?", "completion": "4"}, "asks a held-out question"),
        ({"prompt": "a", "completion": "b", "label": False}, "a completion whose label says that it is bad"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "a preference, which dpo.files takes"),
        ({"instruction": "a", "output": ""}, "an empty message of the assistant"),
        ({"instruction": "a", "output": "b", "response": "c"}, "no list of messages"),
        ({"instruction": "a", "output": "b", "history": [["c"]]}, "no list of messages"),
        ({"prompt": "a", "question": "b", "response": "c"}, "no list of messages"),
        ({"message_tree_id": "1", "prompt": {"text": "a", "role": "prompter", "replies": []}}, "no answer"),
        ({"message_id": "1", "parent_id": "0", "text": "a", "role": "prompter"},
         "a message whose first question is not in the file"),
        ({"text": "A chat. ### Human: a### Assistant: b"}, "no list of messages"),
        ({"text": "Human: write a chat\n\nAssistant: Human: a\nHuman: b\nAssistant: c"}, UNCERTAIN),
        ({"text": "Human: a\n\nUser: b\n\nAssistant: c"}, UNCERTAIN),
        ({"text": "<|im_start|>user\na<|im_start|>assistant\nb<|im_end|>"}, UNCERTAIN),
        ({"messages": "[{'role': 'user' 'content': 'a'}]"}, "messages that are no list of messages"),
        ({"messages": {"role": ["user", "assistant"], "content": ["a"]}}, "messages that are no list of messages"),
        ({"messages": [{"role": "user", "text": "a"}]}, "a message without content (it has role, text)"),
        ({"image": "a.jpg", **said("<image> What?", "A cat.")}, "a conversation about what is no text (image)"),
        (said("a", "thinking", channel="analysis"), "no answer"),
        (said("a", "b", channel="inner"), "a message of the channel 'inner'"),
    ],
)  # fmt: skip
def test_what_is_rejected(reasoning: Path, tmp_path: Path, record: Any, why: str) -> None:
    metrics = _made(reasoning, tmp_path, [record, said("Hi", "Hello!"), said("Hi", "Hello!")])
    rejects = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert sorted(reject["rule"] for reject in rejects) == sorted([why, "conversation seen before"])
    assert metrics.rejected_by == {why: 1, "conversation seen before": 1}
    assert (metrics.train_conversations, metrics.answers) == (1, 1)


@pytest.mark.parametrize("flag", [{"weight": 0}, {"train": False}, {"loss": False}])
def test_an_answer_may_be_read_and_not_learned(reasoning: Path, tmp_path: Path, flag: dict[str, Any]) -> None:
    turns = said("a", "b", "c", "d")["messages"]
    turns[1] |= flag
    assert _made(reasoning, tmp_path, [{"messages": turns}]).answers == 1
    (row,) = read_conversations(tmp_path / "train.jsonl")
    assert [turn.is_learned for turn in turns_of(row)] == [True, False, True, True]


def test_too_many_bad_rows_and_too_few_good_ones_are_said(reasoning: Path, tmp_path: Path) -> None:
    good = [said(str(number), "b") for number in range(4)]
    with pytest.raises(
        UserError, match=r"talk\.jsonl: record 5: no answer \(it has messages\); 1 of 5 records are unu"
    ):
        _made(reasoning, tmp_path, [*good, said("a")], max_failures=0.1)
    with pytest.raises(UserError, match="4 conversations, of which 4 are to be held out; add files, or lower"):
        _made(reasoning, tmp_path, good, validation=4)
    with pytest.raises(UserError, match=r"conversations\.files: no record in them; leave them out"):
        _made(reasoning, tmp_path, [])


def test_as_many_are_held_out_as_were_asked_for_whatever_the_order(reasoning: Path, tmp_path: Path) -> None:
    rows = [said(str(number), "b", "again", "c") for number in range(40)]
    metrics = _made(reasoning, tmp_path, rows, validation=7)
    assert (metrics.train_conversations, metrics.validation_conversations) == (33, 7)
    assert (metrics.answers, metrics.answers_later) == (80, 40)
    first = (tmp_path / "validation.jsonl").read_text()
    _made(reasoning, tmp_path, rows[::-1], validation=7)
    assert (tmp_path / "validation.jsonl").read_text() == first


def test_what_is_left_out_of_conversations_is_counted(reasoning: Path, tmp_path: Path) -> None:
    rows = [
        {"messages": [*said("a", "t", channel="analysis")["messages"], *said("b", "c")["messages"]]},
        {"messages": [*said("Hi", "Wait.", channel="commentary")["messages"], FINAL]},
        TREE,
    ]
    left_out = _made(reasoning, tmp_path, rows).left_out
    assert left_out == {"analysis without an answer": 1, "commentary": 1, "messages of a tree beside its best path": 2}
    assert _made(reasoning, tmp_path, [said("Hi", "Hello!")]).left_out is None


def test_rows_of_a_tree_are_put_together(reasoning: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"message_id": "1", "parent_id": None, "text": "Hi", "role": "prompter", "rank": None},
        {"message_id": "3", "parent_id": "1", "role": "assistant", **BAD},
        {"message_id": "5", "parent_id": None, "text": "x", "role": "prompter"},
        {"message_id": "2", "parent_id": "1", "role": "assistant", **BEST},
        {"message_id": "6", "parent_id": "5", "text": "y", "role": "assistant"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "tree.parquet")
    for files in (None, (str(tmp_path / "tree.parquet"),)):
        metrics = _made(reasoning, tmp_path, rows, **({"files": files} if files else {}))
        assert metrics.left_out == {"messages of a tree beside its best path": 1}
        said_first = {row["messages"][1]["content"] for row in read_conversations(tmp_path / "train.jsonl")}
        assert said_first == {"Hello!", "y"}
        assert metrics.rejected == 0


@pytest.mark.parametrize("ends", ["\n", ""])
def test_a_line_may_be_a_list_of_messages(reasoning: Path, tmp_path: Path, ends: str) -> None:
    lists = [said(str(number), "b")["messages"] for number in range(3)]
    (tmp_path / "talk.jsonl").write_text("\n".join(map(json.dumps, lists)) + ends)
    (tmp_path / "array.json").write_text(json.dumps(lists))
    for name in ("talk.jsonl", "array.json"):
        config = ConversationsConfig(files=(str(tmp_path / name),), validation=0)
        assert conversations(config, {"reasoning": reasoning}, tmp_path).train_conversations == 3


def test_parquet_says_the_same(reasoning: Path, tmp_path: Path) -> None:
    rows = [said("Hi", "Hello!", reasoning_content="A greeting."), said("Hi", "Hello!")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "talk.parquet")
    for name, files in (("jsonl", None), ("parquet", (str(tmp_path / "talk.parquet"),))):
        (tmp_path / name).mkdir()
        _made(reasoning, tmp_path / name, rows, **({"files": files} if files else {}))
    texts = [
        [row["messages"] for row in read_conversations(tmp_path / name / "train.jsonl")]
        for name in ("jsonl", "parquet")
    ]
    assert texts[0] == texts[1]
