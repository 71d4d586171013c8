"""Conversations to token ids: the one way for training, evaluation, serving, the terminal and MLflow's model.

The chat template of the tokenizer's folder is rendered, as transformers and llama.cpp do with the exported files, and
the same messages make the same ids in all of them. What people, data rows and models write is text and stays text:
control tokens are those that the template has set, never those that a message names.

Earlier answers of a conversation lose their reasoning, as R1's do; what is left of the marks the template decides. A
conversation of several answers is therefore as many examples: for turn i the `prompt` of the turns before it, and its
`response`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import groupby, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from infra.errors import UserError
from pipeline.tokens.chat_template import CLOSE, OPEN, OWN_FORMAT, VISIBLE_TOKENS, Escape, TemplateFormat, read_format
from pipeline.tokens.continuation import ContinuationDecoder
from pipeline.tokens.messages import Turn
from pipeline.tokens.plain_text import After, PlainText, control_names
from pipeline.tokens.tools import TRIAL, CallStyle, Tool, arguments_of, as_text, style_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["ChatFormat", "Turn", "chat_format", "read_tokenizer", "token_id"]

THOUGHT, SAID = "deepmillthought", "deepmillsaid"
"""What stands for reasoning and answer where a template is asked what it writes around them."""
_formats: WeakKeyDictionary[Tokenizer, TemplateFormat] = WeakKeyDictionary()


@dataclass(frozen=True)
class Around:
    """What the format writes around the reasoning and the answer."""

    before: str
    between: str
    after: str
    """Ends in the token that ends an answer."""


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Number of a special token; UserError when the vocabulary lacks it."""
    number = tokenizer.token_to_id(token)
    if number is None:
        raise UserError(f"the tokenizer has no {token}, which the chat format needs; see tokenizer.adopt")
    return int(number)


class ChatFormat:
    """The chat format of one tokenizer, which is left as it is.

    Args:
        tokenizer: the vocabulary.
        template: of its folder; by default that of tokenizers trained here.

    Raises:
        UserError: the vocabulary lacks a token of the format, or the template writes no conversation.
    """

    def __init__(self, tokenizer: Tokenizer, template: TemplateFormat = OWN_FORMAT) -> None:
        self.tokenizer, self._template = tokenizer, template
        names = control_names(tokenizer, template.template)
        self._escape = Escape(names.values())
        self._numbers = {name: number for number, name in names.items()}
        self._text = PlainText(tokenizer, names)
        self._marks, self._words = Escape(VISIBLE_TOKENS), ContinuationDecoder(tokenizer)
        for mark in VISIBLE_TOKENS:
            token_id(tokenizer, mark)
        question = [{"role": "user", "content": "?"}]
        self.opening = self._opening(question)
        """What is rendered, behind the messages, where the model takes over."""
        self.begun = OPEN if self.opening.rstrip().endswith(OPEN) else ""
        """``<think>`` where the opening has begun the reasoning, so that the model writes none: what to set before its
        text to tell reasoning from answer."""
        self._around = self._ask_around(question)
        asked = self._template.render(question, open_answer=True)
        self._before_answer = After.TEXT if self._escape.split(asked)[-1] else After.CONTROL
        self.eos = self._numbers[self._escape.split(self._around.after)[-2]]
        """The token that ends an answer."""
        self.bos = self._role("bos", self.eos)
        """The token that a text begins with."""
        self.pad = self._role("pad", self.eos)
        """A token to fill rows with."""

    @property
    def control(self) -> tuple[str, ...]:
        """Names of the tokens that no text may hold."""
        return tuple(self._numbers)

    def _role(self, role: str, other: int) -> int:
        name = self._template.token(role)
        number = None if name is None else self.tokenizer.token_to_id(name)
        return other if number is None else int(number)

    def _opening(self, question: list[dict[str, str]]) -> str:
        closed, opened = (self._template.render(question, open_answer=value) for value in (False, True))
        if opened.startswith(closed) and (opened != closed or self._answers_at_once(question, opened)):
            return opened[len(closed) :]
        parts = self._escape.split(opened)  # a conversation that is closed may end in a token of its own
        pairs = takewhile(lambda pair: pair[0] == pair[1], zip(parts, self._escape.split(closed), strict=False))
        same = [part for part, _ in pairs]
        if opening := "".join(parts[len(same) :]) if question[0]["content"] in "".join(same) else "":
            return opening
        raise UserError(
            f"{self._template.where}: takes no notice of add_generation_prompt; set tokenizer.template to own"
        )

    def _answers_at_once(self, question: list[dict[str, str]], asked: str) -> bool:
        """Whether an answer stands right behind what ends a question, as in Llama 2's ``[/INST]``."""
        answered = self._template.render([*question, {"role": "assistant", "content": SAID}], open_answer=False)
        return answered.startswith(asked) and not answered[len(asked) :].partition(SAID)[0].strip()

    def _ask_around(self, question: list[dict[str, str]]) -> Around:
        """What the template writes around reasoning and answer, where it knows reasoning; else the bare marks."""
        begun = self._template.render(question, open_answer=True)
        answer = {"role": "assistant", "content": SAID, "reasoning_content": THOUGHT}
        whole = self._template.render([*question, answer], open_answer=False)
        before, thought, rest = whole.removeprefix(begun).partition(THOUGHT)
        if not whole.startswith(begun) or not thought or SAID not in rest:
            before, rest = "" if self.begun else OPEN, f"{CLOSE}{SAID}{whole.rpartition(SAID)[2]}"
        between, _, after = rest.partition(SAID)
        text, *ends = self._escape.split(after)
        if not ends:
            raise UserError(
                f"{self._template.where}: writes no special token behind an answer, so that no answer would end; set "
                "tokenizer.template to own"
            )
        return Around(before, between, text + ends[0])

    def encode(self, text: str, after: After = After.CONTROL) -> list[int]:
        """Tokens of plain text; what looks like a control token is text too."""
        return self._text(text, after)

    def written(self, text: str) -> list[int]:
        """Tokens of what a model wrote: the marks of the reasoning are its own, all else is text."""
        return self._cut(text, self._marks, self._text, self._before_answer)

    def continuation(self, tokens: Sequence[int]) -> str:
        """Text of what a model wrote behind a plain text, up to the token that ends an answer."""
        return self._words.decode(self._ended(tokens))

    def _ended(self, tokens: Sequence[int]) -> Sequence[int]:
        """Without the end, which is no special token in every vocabulary."""
        return tokens[:-1] if tokens and tokens[-1] == self.eos else tokens

    def said(self, tokens: Sequence[int]) -> str:
        """Text of an answer, of which `written` makes the same tokens, but for the end, where it is cut as any is."""
        tokens = self._ended(tokens)
        if not self._text.sets_blank(After.CONTROL):
            return self._words.decode(tokens)
        added = self.tokenizer.get_added_tokens_decoder()
        found, after = "", self._before_answer
        for is_added, run in groupby(tokens, added.__contains__):
            shown = self._words.decode(list(run))
            found += shown.removeprefix(" ") if not is_added and self._text.sets_blank(after) else shown
            after = After.CONTROL
        return found

    def text(self, turns: Sequence[Turn], tools: Sequence[Tool] = ()) -> str:
        """A conversation up to where the model takes over, as `tokens` reads it."""
        return self._render(turns, tools, open_answer=True)

    def _render(self, turns: Sequence[Turn], tools: Sequence[Tool], *, open_answer: bool) -> str:
        if not self._takes_tools:
            turns, tools = as_text(turns, tools), ()
        messages = [self._message(turn) for turn in turns]
        offered = [self._quoted(tool.signature) for tool in tools]
        return self._template.render(messages, open_answer=open_answer, tools=offered or None)

    @cached_property
    def call_style(self) -> CallStyle:
        """How the model writes calls of tools."""
        return self._own_style or CallStyle.TAGGED

    @property
    def _takes_tools(self) -> bool:
        return self._own_style is not None

    @cached_property
    def _own_style(self) -> CallStyle | None:
        """Of the template, where it takes tools and writes calls in a way that is read here."""
        if not self._template.takes_tools:
            return None
        messages = [self._message(Turn("user", "?")), self._message(Turn("assistant", "", calls=(TRIAL,)))]
        offered = [Tool(TRIAL.name, {"type": "object", "properties": {}}, TRIAL.name).signature]
        try:
            opened = self._template.render(messages[:1], open_answer=True, tools=offered)
            whole = self._template.render(messages, open_answer=False, tools=offered)
        except UserError:
            return None
        return style_of(whole.removeprefix(opened))

    def quoted(self, text: str) -> str:
        """A text in which `tokens` finds no control token."""
        return self._escape.hide(text)

    def _quoted(self, value: Any) -> Any:
        """A value of JSON in which `tokens` finds no control token."""
        if isinstance(value, str):
            return self.quoted(value)
        if isinstance(value, Mapping):
            return {self.quoted(key): self._quoted(each) for key, each in value.items()}
        return [self._quoted(each) for each in value] if isinstance(value, list) else value

    def tokens(self, text: str, after: After = After.NOTHING) -> list[int]:
        """Tokens of what `text` made: names of control tokens are those, unless `quoted`."""
        return self._cut(text, self._escape, lambda part, after: self._text(self._escape.show(part), after), after)

    def _cut(
        self,
        text: str,
        names: Escape,
        encode: Callable[[str, After], list[int]],
        after: After,
    ) -> list[int]:
        """Tokens of a text in which `names` are control tokens, behind what stands before it."""
        found: list[int] = []
        for place, part in enumerate(names.split(text)):
            if place % 2:
                found.append(self._numbers[part])
            elif part:
                found += encode(part, After.CONTROL if place else after)
        return found

    def _parts(self, role: str, parts: Sequence[str]) -> Any:
        """Content as the template takes it: parts, or the text that llama.cpp and vLLM make of them."""
        if self._template.takes_parts(role):
            return [{"type": "text", "text": part} for part in parts]
        return "\n".join(parts)

    def _message(self, turn: Turn) -> dict[str, Any]:
        role = "system" if turn.role == "developer" else turn.role
        reasoning, content = _thought(turn)
        said = self._parts(role, turn.parts) if turn.parts and content == turn.content else content
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments_of(call)}}
            for call in turn.calls
        ]
        others = {"reasoning_content": reasoning, "tool_calls": calls, "tool_call_id": turn.call_id, "name": turn.name}
        given = {"content": said} | {key: value for key, value in others.items() if value}
        return {"role": role, **self._quoted(given)}

    def prompt(self, turns: Sequence[Turn], tools: Sequence[Tool] = ()) -> list[int]:
        """Tokens of a conversation up to where the model takes over."""
        return self.tokens(self.text(turns, tools))

    def continued(self, turns: Sequence[Turn], tools: Sequence[Tool] = ()) -> list[int]:
        """Tokens of a conversation whose last message, an answer, the model goes on with.

        Raises:
            UserError: the template does not write that message.
        """
        *before, last = turns
        reasoning, content = _thought(last)
        if reasoning:  # which a template without a place for it would leave out
            return [*self.prompt(before, tools), *self._answer(reasoning, content, "")]
        begun = [*before, replace(last, content=last.content + SAID)]
        text, found, _ = self._render(begun, tools, open_answer=False).rpartition(SAID)
        if not found:
            raise UserError(f"{self._template.where}: does not write the last message, so that nothing can go on there")
        return self.tokens(text)

    def question(self, text: str) -> list[int]:
        """Tokens of a conversation that is one question."""
        return self.prompt([Turn("user", text)])

    def response(self, reasoning: str, answer: str) -> list[int]:
        """Tokens of what the model is to write: reasoning between its marks, the answer, the end."""
        return self._answer(reasoning, answer, self._around.after)

    def _answer(self, reasoning: str, answer: str, after: str) -> list[int]:
        around = self._around
        text = f"{around.before}{self.quoted(reasoning)}{around.between}{self.quoted(answer)}{after}"
        return self.tokens(text, self._before_answer)

    @property
    def skipped(self) -> str:
        """What an answer without any reasoning begins with, as `tokens` reads it."""
        return self._around.before + self._around.between

    def no_reasoning(self) -> list[int]:
        """Tokens that an answer without any reasoning begins with."""
        return self.tokens(self.skipped, self._before_answer)


def _thought(turn: Turn) -> tuple[str, str]:
    """Reasoning and answer of a message, told apart as templates do it."""
    reasoning, content = turn.reasoning, turn.content
    if turn.role == "assistant" and not reasoning and CLOSE in content:
        return content.split(CLOSE)[0].split(OPEN)[-1], content.split(CLOSE)[-1]
    return reasoning, content


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder, whose `chat_format` is that of the folder's template.

    Raises:
        UserError: it cannot be read.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # a bare Exception is what the library raises
        raise UserError(f"{file}: no readable tokenizer ({error}); save it again") from None
    _formats[tokenizer] = read_format(folder)
    return tokenizer


@lru_cache(maxsize=4)
def chat_format(tokenizer: Tokenizer) -> ChatFormat:
    """The format over a tokenizer, made once: of the folder that `read_tokenizer` read it from, else our own."""
    return ChatFormat(tokenizer, _formats.get(tokenizer, OWN_FORMAT))
