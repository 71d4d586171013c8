"""Whole chats in one text: the forms whose turns can be told apart for certain.

    <|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\nHello!<|im_end|>    ChatML; Llama 3's and gpt-oss's alike
    <s>[INST] <<SYS>>\\n...\\n<</SYS>>\\n\\nHi [/INST] Hello! </s>                 Llama 2 and Mistral
    ### Human: Hi### Assistant: Hello!                                       Guanaco
    \\n\\nHuman: Hi\\n\\nAssistant: Hello!                                        Anthropic

Where nothing but words mark the turns, somebody may have written those words: such a text is a chat if it begins with a
mark, person and assistant speak in turn, and all marks are alike, the blank line before them too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["UNCERTAIN", "turns_of_text"]

UNCERTAIN = "a chat in one text whose turns cannot be told apart"
_LLAMA2 = {"[INST]": "user", "[/INST]": "assistant"}
_BEGINNINGS = re.compile(r"(?:\s|<s>|<\|begin_of_text\|>|<\|startoftext\|>)*")
_ENDS = re.compile(r"(?:\s|</s>|<s>|<\|endoftext\|>|<\|end_of_text\|>)*\Z")
_SYSTEM = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)


@dataclass(frozen=True)
class _Form:
    """One way to mark turns."""

    mark: re.Pattern[str]
    """What a turn begins with; its groups are the role, and the channel where there is one."""
    end: re.Pattern[str] | None = None
    """What a turn ends with; None where the next one's mark ends it."""


_FORMS = (
    _Form(re.compile(r"<\|im_start\|>\s*(\w+)\n"), re.compile(r"<\|im_end\|>\s*")),
    _Form(re.compile(r"<\|start_header_id\|>\s*(\w+)\s*<\|end_header_id\|>\n*"), re.compile(r"<\|eot_id\|>\s*")),
    _Form(re.compile(r"<\|start\|>(\w+)(?:<\|channel\|>(\w+))?<\|message\|>"), re.compile(r"<\|(?:end|return)\|>\s*")),
    _Form(re.compile(r"(\[/?INST\])")),
    _Form(re.compile(r"### ?(System|Human|User|Assistant): ?")),
    _Form(re.compile(r"(?:^|(?<=\n))(System|Human|User|Assistant): ?")),
)


def turns_of_text(text: str) -> list[dict[str, str]] | str | None:
    """The messages of a text; what is wrong with it where it only looks like a chat; None where it does not."""
    body = text[_BEGINNINGS.match(text).end() :]  # type: ignore[union-attr]
    for form in _FORMS:
        if form.mark.match(body):
            marks = list(form.mark.finditer(body))
            found = _turns(form, body, marks)
            is_certain = form.end or (_are_alike(body, marks) and found is not None and _alternate(found))
            return found if found is not None and is_certain else UNCERTAIN
    return None


def _turns(form: _Form, body: str, marks: list[re.Match[str]]) -> list[dict[str, str]] | None:
    found: list[dict[str, str]] = []
    for place, mark in enumerate(marks):
        is_last = place + 1 == len(marks)
        content = body[mark.end() : len(body) if is_last else marks[place + 1].start()]
        content = content[: _ENDS.search(content).start()]  # type: ignore[union-attr]
        if form.end is not None:
            content, *rest = form.end.split(content)
            if any(rest) or not (rest or is_last):
                return None
        turn = {"role": _LLAMA2.get(mark[1], mark[1]).lower(), "content": content}
        if form.mark.groups > 1 and mark[2]:
            turn["channel"] = mark[2]
        if mark[1] == "[INST]" and (system := _SYSTEM.match(content)):
            found.append({"role": "system", "content": system[1]})
            turn["content"] = content[system.end() :]
        found.append(turn)
    return found


def _are_alike(body: str, marks: list[re.Match[str]]) -> bool:
    persons = {mark[1] for mark in marks} - {"System", "Assistant", "[/INST]"}
    return len(persons) == 1 and len({body.endswith("\n\n", 0, mark.start()) for mark in marks[1:]}) < 2


def _alternate(turns: list[dict[str, str]]) -> bool:
    """Whether person and assistant speak in turn, with nothing but a system text before."""
    sides = [turn["role"] == "assistant" for turn in turns if turn["role"] != "system"]
    systems = [place for place, turn in enumerate(turns) if turn["role"] == "system"]
    return systems in ([], [0]) and sides == [bool(place % 2) for place in range(len(sides))]
