"""The messages of a record, in the forms that the field's sets of conversations have.

    {"messages": [{"role": "user", "content": "Hi"}, ...]}             OpenAI's API and Hugging Face's sets
    {"conversations": [{"from": "human", "value": "Hi"}, ...]}         ShareGPT, with its own names of roles
    {"prompt": [{"role": ...}], "completion": [{"role": ...}]}         TRL: answers of the prompt are not learned
    {"data": ["Hi", "Hello!", ...]}                                    UltraChat: texts in turn
    {"instruction": "Add.", "input": "1, 2", "output": "3"}            Alpaca; Dolly has `context` and `response`
    {"prompt": "Hi", "completion": "Hello!"}                           one question and its answer, as texts
    {"prompt": {"text": "Hi", "role": "prompter", "replies": [...]}}   OASST: of a tree the best path
    [{"role": "user", "content": "Hi"}, ...]                           messages without a key
    {"text": "<|im_start|>user\\nHi<|im_end|>..."}                     a whole chat (`chat_texts`)

The list may be written as JSON, or as Python prints it, or be columns (``{"role": [...], "content": [...]}``). What one
side says in several messages is one turn, for many chat templates take no others. `input` stands below the instruction,
after an empty line; `history` (LLaMA-Factory) has the questions and answers before. An answer with ``"weight": 0``
(OpenAI), ``"train": false`` (Axolotl) or ``"loss": false`` is read and not learned. What gpt-oss says in the channel
`analysis` is the reasoning of the answer behind it; its `commentary` is left out, or is the call of a tool.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NotRequired

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from pipeline.reasoning.chat_texts import turns_of_text
from pipeline.reasoning.message_trees import best_path

__all__ = ["Message", "messages_of"]

_LISTS = ("messages", "conversations", "conversation")
_QUESTIONS, _BELOW, _ANSWERS = (
    ("instruction", "prompt", "question"),
    ("input", "context"),
    ("output", "completion", "response"),
)
"""Names of texts: of a question, of what stands below it, of its answer."""
_ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "ai": "assistant", "bot": "assistant",
    "chatgpt": "assistant", "gpt-4": "assistant", "bing": "assistant", "bard": "assistant", "tool": "tool",
    "function": "tool", "observation": "tool", "ipython": "tool", "function_call": "call", "tool_call": "call",
}  # fmt: skip
_REASONING = ("reasoning_content", "reasoning", "thinking")
_FLAGS = ("weight", "train", "loss")
CHANNELS = ("final", "analysis", "commentary")
"""Of the answers of gpt-oss."""
_MEDIA = ("image", "images", "video", "videos", "audio", "audios")
LONGEST_LITERAL = 1_000_000
"""Characters of a list written as Python has it that are read."""
_TEXT_PARTS = (None, "text", "input_text", "output_text")
_CLOSED_ALONE = re.compile(r"\n\s*</think>\s*\n|</think>\s*\n\s*\n")
"""How reasoning ends whose beginning a chat template has written, as R1's does."""


class Message(TypedDict):
    """One turn."""

    role: str
    content: str
    reasoning: NotRequired[str]
    learned: NotRequired[bool]
    """False of an answer that is only read."""


THOUGHT_ALONE, COMMENTARY, BESIDE = (
    "analysis without an answer",
    "commentary",
    "messages of a tree beside its best path",
)
"""What is left out of conversations that are kept."""


def messages_of(record: Any, left_out: Counter[str] | None = None) -> list[Message] | str:
    """The messages up to the last answer that is learned, or what is wrong with the record.

    Where a tool is called, or an answer is left empty, they end before that; a greeting before the first question is
    left out, for nobody will have said it when the model is asked (FastChat does so too).

    Args:
        left_out: counts what else is left out.
    """
    if isinstance(record, list) and all(isinstance(each, Mapping) for each in record):
        record = {"messages": record}
    counted: Counter[str] = Counter()
    raw = _turns(record, counted) if isinstance(record, Mapping) else "no list of messages"
    found = raw if isinstance(raw, str) else _kept(raw, counted)
    if left_out is not None and not isinstance(found, str):
        left_out.update(+counted)
    return found


def _kept(raw: Iterable[Any], left_out: Counter[str]) -> list[Message] | str:
    found: list[Message] = []
    thoughts: list[str] = []
    why = "no answer"
    for turn in raw:
        role = _first(turn, "role", "from") if isinstance(turn, Mapping) else None
        known = _ROLES.get(role.strip().lower()) if isinstance(role, str) else None
        if known is None:
            return "a message without a role that is known" if role is None else f"a message of the role {role!r:.40}"
        if (channel := turn.get("channel") or "final") not in CHANNELS:
            return f"a message of the channel {channel!r:.40}"
        is_sent = channel != "final" and turn.get("recipient")  # to a tool
        if known in ("tool", "call") or turn.get("tool_calls") or turn.get("function_call") or is_sent:
            break
        if channel == "commentary":
            left_out[COMMENTARY] += 1
            continue
        read = _message(known, turn)
        if channel == "analysis" and not isinstance(read, str):
            thoughts.append(read["content"])
            continue
        if read == "" and known == "system":
            continue
        if read == "":
            why = f"an empty message of the {known}"
            if known == "assistant":
                break
            return why
        if isinstance(read, str):
            return read
        if known == "assistant" and thoughts:
            read.setdefault("reasoning", "\n\n".join(thoughts))
        elif thoughts:
            left_out[THOUGHT_ALONE] += 1
        thoughts = []
        if known == "assistant" and all(each["role"] != "user" for each in found):
            why = "an answer before any question"
            continue
        if found and _is_one_turn(found[-1], read):
            found[-1]["content"] += f"\n\n{read['content']}"
        else:
            found.append(read)
    left_out[THOUGHT_ALONE] += bool(thoughts)
    while found and not (found[-1]["role"] == "assistant" and found[-1].get("learned", True)):
        found.pop()
    return found or why


def _first(turn: Mapping[str, Any], *names: str) -> Any:
    """The first of the values that is there: tables have each name in every row."""
    return next((turn[name] for name in names if turn.get(name) is not None), None)


def _is_one_turn(last: Message, added: Message) -> bool:
    """Whether the second of two messages only goes on with the first."""
    if last["role"] != added["role"] or added["role"] == "system" or "reasoning" in added:
        return False
    return last.get("learned", True) == added.get("learned", True)


def _turns(record: Mapping[str, Any], left_out: Counter[str]) -> list[Any] | str:
    """The list of messages, with the system text that some sets have beside it; or what is wrong with the record."""
    if seen := next((name for name in _MEDIA if record.get(name)), None):
        return f"a conversation about what is no text ({seen})"
    if "completion" in record and record.get("label") is False:  # TRL's unpaired preferences
        return "a completion whose label says that it is bad"
    if path := best_path(record):
        left_out[BESIDE] += path.left_out
        return path.messages
    prompt, completion = _list(record.get("prompt")), _list(record.get("completion"))
    if prompt and completion:
        return [{"loss": False, **turn} if isinstance(turn, Mapping) else turn for turn in prompt] + completion
    found, system = next(filter(None, (_list(record.get(key)) for key in _LISTS)), None), record.get("system")
    if found is None:
        found, system = _of_texts(record) or _list(record.get("data")), system or record.get("system_prompt")
    if not found:
        text = next((record[key] for key in ("text", *_LISTS) if isinstance(record.get(key), str)), "")
        told: list[Any] | str | None = turns_of_text(text)
        if isinstance(told, str):
            return told
        found = told
    if not found:
        if "chosen" in record and "rejected" in record:
            return "a preference, which dpo.files takes"
        named = next((key for key in _LISTS if record.get(key)), None)
        return "no list of messages" if named is None else f"{named} that are no list of messages"
    if all(isinstance(turn, str) for turn in found):
        found = _in_turn(found)
    is_said = any(isinstance(turn, Mapping) and turn.get("role", turn.get("from")) == "system" for turn in found)
    return [{"role": "system", "content": system}, *found] if isinstance(system, str) and not is_said else found


def _of_texts(record: Mapping[str, Any]) -> list[str] | None:
    """Question and answer of a record that has them as texts, after those of its history."""
    question, below, answer = (
        [record[key] for key in keys if isinstance(record.get(key), str)] for keys in (_QUESTIONS, _BELOW, _ANSWERS)
    )
    history = _list(record.get("history")) or []
    are_pairs = all(isinstance(pair, list) and len(pair) == 2 for pair in history)
    is_clear = len(question) == 1 or "instruction" in record  # rendered beside it, as `prompt`
    if not question or not is_clear or len(below) > 1 or len(answer) != 1 or not are_pairs:
        return None
    asked = "\n\n".join(filter(None, map(str.strip, question[:1] + below)))
    return [*(text for pair in history for text in pair), asked, *answer]


def _in_turn(texts: Iterable[str]) -> list[Any]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def _list(value: Any) -> list[Any] | None:
    """A list of messages that is one, is written as JSON, or is given by columns."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _literal(value)
    if isinstance(value, Mapping) and value and all(isinstance(column, list) for column in value.values()):
        sizes = {len(column) for column in value.values()}
        value = (
            [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]
            if len(sizes) == 1
            else None
        )
    return value if isinstance(value, list) else None


def _literal(text: str) -> Any:
    """What JSON, or a list as Python prints it, holds; None where it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip()) if len(text) <= LONGEST_LITERAL else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _message(role: str, turn: Mapping[str, Any]) -> Message | str:
    """One message, nothing where it is empty, or what is wrong with it."""
    if not turn.keys() & {"content", "value"}:
        return f"a message without content (it has {', '.join(map(str, turn)):.60})"
    parts = _parts(_first(turn, "content", "value"))
    if parts is None:
        return "content that is no text"
    content, reasoning = parts
    given = next(filter(None, (turn.get(key) for key in _REASONING)), reasoning)
    if not isinstance(given, str):
        return "reasoning that is no text"
    reasoning = given
    if role == "assistant":
        begun, mark, rest = content.partition("</think>")
        opened = begun.lstrip().startswith("<think>")
        if opened and not mark:
            return "a <think> that never ends"
        if mark and (opened or (begun.strip() and _CLOSED_ALONE.search(content))):
            reasoning, content = reasoning or begun.lstrip().removeprefix("<think>"), rest
    content, reasoning = _whole(content), _whole(reasoning)
    if not content:
        return ""
    kept: Message = {"role": role, "content": content}
    if reasoning and role == "assistant":
        kept["reasoning"] = reasoning
    flags = [turn[key] for key in _FLAGS if turn.get(key) is not None]
    if any(flag not in (0, 1) for flag in flags):
        return "a weight that is neither 0 nor 1"
    if role == "assistant" and not all(flags):
        kept["learned"] = False
    return kept


def _parts(content: Any) -> tuple[str, str] | None:
    """Text and reasoning of a content: a text, nothing, or a list of OpenAI's or Anthropic's parts; None of others."""
    if content is None or isinstance(content, str):
        return content or "", ""
    if not isinstance(content, Sequence):
        return None
    texts: list[str] = []
    thoughts: list[str] = []
    for kind, text in _kinds(content):
        if not isinstance(text, str):
            return None
        (thoughts if kind in ("thinking", "reasoning") else texts).append(text)
    return "".join(texts), "".join(thoughts)


def _kinds(parts: Iterable[Any]) -> Iterable[tuple[str | None, Any]]:
    """Kind and text of each part; no text where it is an image or another kind."""
    for part in parts:
        if not isinstance(part, Mapping):
            yield None, part
            continue
        kind = part.get("type")
        if kind in ("thinking", "reasoning"):
            yield kind, part.get(kind) or part.get("text")
        else:
            yield kind, part.get("text") if kind in _TEXT_PARTS else None


def _whole(text: str) -> str:
    """`text` without white space around it and half characters, which JSON can hold and UTF-8 cannot."""
    return text.strip().encode("utf-16", "surrogatepass").decode("utf-16", "replace")
