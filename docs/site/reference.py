"""Pages of the site that are made of the code, and those that lie at the top of the repository.

A hook of MkDocs: it adds the recipe's keys, the commands and the Python interface as they are, so that none of it can
be out of date, and shows README's neighbours under names of their own.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

if TYPE_CHECKING:
    from flows.recipe.keys import Key

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

TOP = {"contributing.md": "CONTRIBUTING.md", "security.md": "SECURITY.md", "changelog.md": "CHANGELOG.md"}
PYTHON = {
    "Flows": ["flows.mill"],
    "A recipe and what it would run": ["flows.recipe.recipe", "flows.recipe.plan"],
    "Artifacts": ["infra.store", "infra.manifest"],
    "Registered models": ["flows.registry.promotion", "flows.registry.aliases"],
    "A model": ["model.architecture.checkpoint", "model.generation.generate"],
    "A stage": ["infra.facts", "infra.events", "infra.errors"],
}
"""What the page of the Python interface shows."""
BOUNDS = {"minimum": "≥", "exclusiveMinimum": "\\>", "maximum": "≤", "exclusiveMaximum": "<"}
"""JSON Schema's keys of a number's bounds."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    pages = {name: _moved((ROOT / source).read_text(encoding="utf-8")) for name, source in TOP.items()}
    made = {"recipe": _recipe, "commands": _commands, "http": _http, "python": _python}
    pages |= {f"reference/{name}.md": page() for name, page in made.items()}
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files at the top of the repository, as they are in the repository, lead to their pages."""
    up = "../" * page.file.src_uri.count("/")
    for name, source in TOP.items():
        markdown = markdown.replace(f"]({up}../{source}", f"]({up}{name}")
    return markdown


def _moved(text: str) -> str:
    """A page of the top of the repository, as it is linked from a place within docs/."""
    text = re.sub(r"\]\(docs/", "](", text)
    for name, source in TOP.items():
        text = text.replace(f"]({source}", f"]({name}")
    return text


def _recipe() -> str:
    """Every key of the recipe, by section."""
    from flows.recipe.keys import all_keys

    lines = [
        "# The recipe",
        "",
        "One YAML file. A key that is left out has its default; a section of a stage that is left out, or `null`, "
        "leaves the stage out where that makes sense. `deepmill explain KEY` says the same in the terminal, with the "
        "presets that set the key and the code that reads it; `deepmill schema` writes it for editors.",
        "",
    ]
    groups = [(name, list(keys)) for name, keys in groupby(all_keys(), key=lambda key: key.path.partition(".")[0])]
    alone = [key for _, keys in groups for key in keys if len(keys) == 1]
    lines += ["## Of the recipe itself", "", *_table(alone), ""]
    for name, (section, *keys) in groups:
        if keys:
            lines += [f"## {name}", "", section.help, "", *_table(keys), ""]
    return "\n".join(lines)


def _table(keys: Iterable[Key]) -> Iterator[str]:
    from flows.recipe.explain import shown_default, shown_type
    from flows.recipe.keys import sections_of

    yield from ("| key | type | default | |", "|---|---|---|---|")
    for key in keys:
        if not sections_of(key):
            default = shown_default(key)
            cells = (f"`{key.path}`", shown_type(key), f"`{default}`" if default else "", key.help)
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _commands() -> str:
    """Every command with its arguments and options."""
    import typer

    from flows.cli import app

    group = typer.main.get_command(app)
    lines = ["# The command line", "", _plain(group.help or ""), ""]
    for path, command in _below(group, "deepmill"):
        context = type(command).context_class(command, info_name=path)
        rows = [row for each in command.get_params(context) if (row := _parameter(each, context))]
        table = ["| | |", "|---|---|", *rows, ""] if rows else []
        shown = _plain(command.epilog or "").replace("$ ", "").replace("\n\n", "\n")
        example = ["```", shown, "```", ""] if shown else []
        lines += [f"## {path}", "", _plain(command.help or ""), "", *table, *example]
    return "\n".join(lines)


def _below(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """The commands of a group and of the groups in it, with their names in full."""
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _below(command, f"{path} {name}")
        elif not command.hidden:
            yield f"{path} {name}", command


def _parameter(parameter: click.Parameter, context: click.Context) -> str:
    record = parameter.get_help_record(context)
    if parameter.name == "help" or record is None:
        return ""
    names, said = (re.sub(r"\s+", " ", _plain(each)).replace("|", "\\|") for each in record)
    return f"| `{names}` | {said} |"


def _plain(text: str) -> str:
    """Help without the marks of the terminal's colours."""
    return re.sub(r"\[/?(?:bold|dim|italic|cyan|green|red|yellow)[^\]]*\]", "", text).strip()


def _http() -> str:
    """Every route of the server, and every class of its requests and answers."""
    from flows.serving.openapi import OPERATIONS, openapi

    schemas = openapi()["components"]["schemas"]
    lines = [
        "# The HTTP interface",
        "",
        "What `deepmill serve` takes and gives; [Serving](../serving.md) says how clients use it. The server itself "
        "tells the same at `/openapi.json` (OpenAPI 3.1), which generators of clients read.",
        "",
    ]
    for each in OPERATIONS:
        body = f"Takes [{each.body.__name__}](#{each.body.__name__.lower()}). " if each.body else ""
        gives = (
            f"Gives [{each.answer.__name__}](#{each.answer.__name__.lower()})" if each.answer else "Gives plain text"
        )
        gives = "Gives a response of OpenAI's" if each.body and not each.answer else gives
        events = ", or its pieces as server-sent events with `stream: true`" if each.streams else ""
        lines += [f"## {each.method.upper()} {each.path}", "", f"{each.told} {body}{gives}{events}.", ""]
    lines += ["## Requests and answers", ""]
    for name, schema in schemas.items():
        name = name.lstrip("_")
        lines += [f"### {name}", "", schema.get("description", "").replace("``", "`"), "", *_fields(schema), ""]
    return "\n".join(lines)


def _fields(schema: dict[str, Any]) -> Iterator[str]:
    yield from ("| key | type | default | |", "|---|---|---|---|")
    for key, field in schema.get("properties", {}).items():
        default = f"`{json.dumps(field['default'])}`" if field.get("default") is not None else ""
        needed = "needed" if key in schema.get("required", ()) else default
        yield f"| `{key}` | {_kind(field)} | {needed} | {field.get('description', '').replace('``', '`')} |"


def _kind(field: dict[str, Any]) -> str:
    """A type of JSON Schema in words, with its bounds and links to the classes of this page."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2].lstrip("_")
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(_kind(each) for each in field["anyOf"])
    if "enum" in field:
        return " or ".join(f"`{json.dumps(each)}`" for each in field["enum"])
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if field.get("type") == "array":
        return f"list of {_kind(field['items'])}" if field.get("items") else "list"
    bounds = [f"{sign} {field[key]}" for key, sign in BOUNDS.items() if key in field]
    return " ".join([field.get("type", "anything"), ", ".join(bounds)]).strip()


def _python() -> str:
    said = "What other code may call. Everything else is a module away, and its docstring says what it does."
    lines = ["# From Python", "", said, ""]
    for heading, modules in PYTHON.items():
        lines += [f"## {heading}", ""]
        for module in modules:
            lines += [f"::: {module}", "    options: {heading_level: 3}", ""]
    return "\n".join(lines)
