"""How messages become the text of a conversation: chat templates, rendered as transformers and llama.cpp render them.

Every model folder says it in its ``tokenizer_config.json`` or ``chat_template.jinja``; that template and nothing else
is asked, by whoever makes a prompt here. `CHAT_TEMPLATE` is that of tokenizers trained here. It keeps the reasoning of
what follows the last question; before it only the empty marks are left, as R1's template drops the reasoning of
earlier turns (arXiv 2501.12948's published tokenizer).

Templates come from elsewhere: they run in Jinja's sandbox, without a clock, so that a prompt is the same every day.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.errors import UserError, first_line
from infra.json_objects import JsonObject, read_object

if TYPE_CHECKING:
    from jinja2 import Environment, Template

__all__ = [
    "CHAT_TEMPLATE",
    "CLOSE",
    "FIM_TOKENS",
    "OPEN",
    "OWN_FORMAT",
    "SPECIAL_TOKENS",
    "VISIBLE_TOKENS",
    "Escape",
    "TemplateFormat",
    "chat_text",
    "read_format",
    "template_of",
    "token_names",
    "write_own_settings",
    "write_settings",
]

SPECIAL_TOKENS = ("<|bos|>", "<|eos|>", "<|pad|>", "<|user|>", "<|assistant|>", "<think>", "</think>")
FIM_TOKENS = ("<|fim_begin|>", "<|fim_hole|>", "<|fim_end|>")
"""Before the prefix, the suffix and the middle; they come after `SPECIAL_TOKENS` where the recipe asks for them."""
VISIBLE_TOKENS = ("<think>", "</think>")
OPEN, CLOSE = VISIBLE_TOKENS
ROLES = ("bos", "eos", "pad", "unk")

# Messages may carry the reasoning as `reasoning_content` (the field of DeepSeek's API), as `reasoning` (vLLM's) or
# inside the content; the content may be a text, nothing, or parts. The loop over the parts is written where vLLM looks
# for one. Calls of tools and what tools answer are text, in the form that Hermes and Qwen made common.
CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- set ns = namespace(last=-1, text='', before='') -%}
{%- for message in messages -%}
{%- if message['role'] in ['user', 'tool'] -%}{%- set ns.last = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- if tools -%}
{%- set ns.text = 'You may call these functions:\\n<tools>\\n' -%}
{%- for tool in tools -%}
{%- set about = tool['function'] -%}
{%- set ns.text = ns.text + '{"type": "function", "function": {"name": ' + about['name'] | tojson
    + ', "description": ' + (about['description'] or '') | tojson
    + ', "parameters": ' + (about['parameters'] or {'type': 'object'}) | tojson + '}}\\n' -%}
{%- endfor -%}
{%- set ns.text = ns.text + '</tools>\\nTo call one, write its name and arguments as JSON between tags:\\n'
    + '<tool_call>\\n{"name": <name>, "arguments": <object>}\\n</tool_call>' -%}
{%- endif -%}
{%- set offer = ns.text -%}
{%- if offer and messages[0]['role'] not in ['system', 'developer'] -%}{{- offer -}}{%- endif -%}
{%- for message in messages -%}
{%- if message['content'] and message['content'][0] is mapping -%}
{%- set ns.text = '' -%}
{%- for part in message['content'] -%}
{%- if part['type'] != 'text' -%}{{- raise_exception('content that is no text') -}}{%- endif -%}
{%- set ns.text = ns.text + part['text'] -%}
{%- endfor -%}
{%- else -%}
{%- set ns.text = message['content'] or '' -%}
{%- endif -%}
{%- if message['role'] == 'user' -%}
{{- '<|user|>' + ns.text -}}
{%- elif message['role'] == 'tool' -%}
{{- ('\\n' if ns.before == 'tool' else '<|user|>') + '<tool_response>\\n' + ns.text + '\\n</tool_response>' -}}
{%- elif message['role'] == 'assistant' -%}
{%- set reasoning = message['reasoning_content'] or message['reasoning'] or '' -%}
{%- if '</think>' in ns.text -%}
{%- set reasoning = ns.text.split('</think>')[0].split('<think>')[-1] -%}
{%- set ns.text = ns.text.split('</think>')[-1] -%}
{%- endif -%}
{%- if loop.index0 < ns.last -%}{%- set reasoning = '' -%}{%- endif -%}
{%- for call in message['tool_calls'] or [] -%}
{%- if call['function'] -%}{%- set call = call['function'] -%}{%- endif -%}
{%- set arguments = call['arguments'] if call['arguments'] is string else call['arguments'] | tojson -%}
{%- set ns.text = ns.text + ('\\n' if ns.text else '') + '<tool_call>\\n{"name": ' + call['name'] | tojson
    + ', "arguments": ' + arguments + '}\\n</tool_call>' -%}
{%- endfor -%}
{{- '<|assistant|><think>' + reasoning + '</think>' + ns.text + eos_token -}}
{%- elif message['role'] in ['system', 'developer'] -%}
{{- ns.text + ('\\n\\n' + offer if offer and loop.first else '') -}}
{%- else -%}
{{- raise_exception('unknown role ' + message['role']) -}}
{%- endif -%}
{%- set ns.before = message['role'] -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|assistant|>' -}}
{%- if enable_thinking is defined and not enable_thinking -%}{{- '<think></think>' -}}{%- endif -%}
{%- endif -%}"""
EARLIER_BEGINNING = "{{- bos_token -}}{%- set ns = namespace(last=-1) -%}"
"""How templates of tokenizers trained here before 2026-12 begin: they took no parts, no tools and no messages without
content, and the first of them ended in a ``<think>`` that no model was prompted with."""

_BREAK = "\ue000"


def chat_text(question: str, reasoning: str, answer: str) -> str:
    """One solved task in the chat format; what `CHAT_TEMPLATE` renders for it."""
    return f"<|bos|><|user|>{question}<|assistant|><think>{reasoning}</think>{answer}<|eos|>"


class Escape:
    """Text in which no control token is named, and back: what a template renders can then be told from what it read.

    A private character is set inside every name, and doubled where a text has it itself.
    """

    def __init__(self, names: Iterable[str]) -> None:
        ordered = sorted(names, key=len, reverse=True)
        self.names = re.compile(f"({'|'.join(map(re.escape, ordered))})" if ordered else "(?!)")

    def hide(self, text: str) -> str:
        """`text` without names."""
        doubled = text.replace(_BREAK, _BREAK * 2)
        return self.names.sub(lambda name: f"{name[0][0]}{_BREAK}{name[0][1:]}", doubled)

    def show(self, text: str) -> str:
        """The inverse of `hide`."""
        return re.sub(f"{_BREAK}({_BREAK}?)", r"\1", text)

    def split(self, text: str) -> list[str]:
        """Parts of what was rendered: text and names in turn, text first."""
        return self.names.split(text)


@dataclass(frozen=True)
class TemplateFormat:
    """A chat template and the tokens that it is given."""

    template: str
    tokens: tuple[tuple[str, str], ...]
    """Role (`ROLES`) and name of the special tokens."""
    where: str = "the chat template"
    """For messages."""

    def token(self, role: str) -> str | None:
        """The name of a special token."""
        return dict(self.tokens).get(role)

    @cached_property
    def _compiled(self) -> Template:
        return _compile(self.template)

    @cached_property
    def takes_tools(self) -> bool:
        """Whether it writes the tools that it is given."""
        from jinja2 import TemplateSyntaxError, meta

        try:
            return "tools" in meta.find_undeclared_variables(_environment().parse(self.template))
        except TemplateSyntaxError:  # which `render` tells
            return False

    @lru_cache(maxsize=32)  # noqa: B019 (of a few formats)
    def takes_parts(self, role: str) -> bool:
        """Whether it reads the content of such messages in parts."""
        text = "deepmillpart"
        asked: dict[str, Any] = {"role": "user", "content": "?"}
        message: dict[str, Any] = {"role": role, "content": [{"type": "text", "text": text}]}
        turns = [message, asked] if role == "system" else [message] if role == "user" else [asked, message]
        try:
            found = self.render(turns, open_answer=False)
        except UserError:
            return False
        return text in found and "'text'" not in found and '"text"' not in found

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        open_answer: bool,
        tools: Sequence[JsonObject] | None = None,
    ) -> str:
        """The text of a conversation; with `open_answer` up to where the model takes over.

        Args:
            tools: as OpenAI's API has them; None for none.

        Raises:
            UserError: the template cannot be read, or refuses the messages.
        """
        from jinja2 import TemplateSyntaxError

        names = {f"{role}_token": token for role, token in self.tokens}
        try:
            return self._compiled.render(
                messages=messages, add_generation_prompt=open_answer, tools=tools, documents=None, **names
            )
        except Exception as error:  # of whatever kind a program of somebody else's ends with
            at = f" (line {error.lineno})" if isinstance(error, TemplateSyntaxError) else ""
            raise UserError(f"{self.where}: {first_line(error)}{at}") from None


OWN_FORMAT = TemplateFormat(CHAT_TEMPLATE, (("bos", "<|bos|>"), ("eos", "<|eos|>"), ("pad", "<|pad|>")))


DAY = datetime.datetime(2025, 1, 1)
"""What templates take for today that do not go without it."""


@lru_cache(maxsize=8)
def _compile(template: str) -> Template:
    """As transformers compiles it, but for `strftime_now`: templates that ask whether it is there have a day of their
    own without, and the others get a fixed one."""
    environment = _environment()
    if not re.search(r"strftime_now\s+is\s+(not\s+)?defined", template):
        environment.globals["strftime_now"] = DAY.strftime
    return environment.from_string(template)


def _environment() -> Environment:
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)

    class Generation(Extension):
        """``{% generation %}`` marks what a model has written, for masks that transformers makes; it writes nothing."""

        tags = {"generation"}  # noqa: RUF012 (as the base class has it)

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    extensions: list[type[Extension]] = [loopcontrols, Generation]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    return environment


def token_names(settings: JsonObject) -> dict[str, str]:
    """Name of the special token of each role that a ``tokenizer_config.json`` gives one."""
    found = {role: settings.get(f"{role}_token") for role in ROLES}
    names = {role: token.get("content") if isinstance(token, dict) else token for role, token in found.items()}
    return {role: name for role, name in names.items() if isinstance(name, str)}


def read_format(folder: Path) -> TemplateFormat:
    """The chat format of a tokenizer's folder; that of tokenizers trained here where the folder has no template."""
    file, beside = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    settings = read_object(file) if file.is_file() else {}
    template = beside.read_text(encoding="utf-8") if beside.is_file() else template_of(settings)
    if not template or template.startswith(EARLIER_BEGINNING):
        return OWN_FORMAT
    where = f"{beside if beside.is_file() else file}: chat_template"
    return TemplateFormat(template, tuple(token_names(settings).items()), where)


def template_of(settings: JsonObject) -> str | None:
    """The chat template of a ``tokenizer_config.json``."""
    template = settings.get("chat_template")
    if isinstance(template, list):  # several, by name
        named = [entry for entry in template if isinstance(entry, dict) and entry.get("name") == "default"]
        template = named[-1].get("template") if named else None
    return template if isinstance(template, str) and template else None


def write_settings(out_dir: Path, settings: JsonObject) -> None:
    """Write ``tokenizer_config.json`` and ``special_tokens_map.json``."""
    names = {f"{role}_token": name for role, name in token_names(settings).items()}
    for name, content in (("tokenizer_config.json", settings), ("special_tokens_map.json", names)):
        text = json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True)
        (out_dir / name).write_text(text + "\n", encoding="utf-8")


def write_own_settings(out_dir: Path) -> None:
    """`write_settings` of the chat format of tokenizers trained here."""
    settings = {
        **{f"{role}_token": name for role, name in OWN_FORMAT.tokens},
        "add_bos_token": False,
        "add_eos_token": False,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1 << 30,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    write_settings(out_dir, settings)
