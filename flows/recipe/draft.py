"""A recipe for what an inventory found, with comments, and of a size that the machine can train."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows.recipe.names import plain_name
from flows.recipe.recipe import PRESETS, Recipe
from flows.recipe.training_plan import plan_training
from infra.units import count, duration, plural, size
from pipeline.inventory import FoundSource, Inventory

__all__ = ["Draft", "draft"]

BASES = ("laptop", "sample")
"""Presets whose models are tried, the larger one first."""
MOST_HOURS = 1.5
"""Of pretraining."""
EPOCHS = 4
"""Times that text may be read and be nearly as good as new (Muennighoff et al., arXiv 2305.16264)."""
FLOPS_PER_CORE = 25e9
"""That training reaches, of fp32, on a core of today's."""
CHARACTERS_PER_TOKEN = 3.5
LEAST_STEPS = 100
LEAST_TEXT = 1e6
"""Characters; the sample has 9 million."""
HELD_OUT = ((20e6, 0.02), (5e6, 0.05), (0, 0.1))
"""Share of the documents that is held out, from so many characters on: of little text some must be left to judge by."""
CORPUS = "# Each source has a kind (what the files are) and a profile (what the text is, which decides the rules):\n"
CORPUS += "# web | prose | reference | dialogue | maths | code. deepmill explain extract.sources.NAME lists the keys.\n"


@dataclass(frozen=True)
class Draft:
    """The text of a recipe, and what to say about it."""

    text: str
    notes: tuple[str, ...]


def draft(found: Inventory, file: Path) -> Draft:
    """A recipe, to be written to `file`: `pretrain` reads the text up to four times, in an hour and a half at most."""
    name = plain_name(file.stem)
    base, steps, seconds = _size(found)
    preset = _preset(base)
    preset["pretrain"] |= {"steps": steps, "warmup_steps": max(1, steps // 20), "validate_every": max(1, steps // 4)}
    preset["export"] |= {"title": name}
    preset["shards"]["validation_fraction"] = next(share for least, share in HELD_OUT if found.characters >= least)
    if found.models:
        preset |= _preset("adopt", ("sft", "grpo", "evaluate", "quantize"))
        preset.pop("grpo", None)
    _give_conversations(found, preset)
    if found.problems:
        preset["reasoning"]["files"] = found.problems
    parts = [
        f"# Written by `deepmill new`. deepmill plan {shlex.quote(str(file))} says what would run,\n"
        "# deepmill explain KEY what a key does.\n"
        "# yaml-language-server: $schema=recipe.schema.json\n",
        _yaml({"name": name, "description": f"a model of {_of(found)}"}),
        CORPUS,
        _sources(found),
        _clean(found),
        "# Problems with answers that can be checked, which the model learns to reason by; `files` takes your own.\n",
        _yaml({key: preset[key] for key in ("reasoning", "conversations") if key in preset}),
        _yaml({"shards": preset["shards"]}),
        *_start(found, preset),
        "# Fine-tuning, reinforcement and release as in the preset; null leaves a stage out.\n",
        _yaml({key: preset[key] for key in ("sft", "grpo", "evaluate", "quantize", "export") if key in preset}),
    ]
    begins = f"the model of the preset {base}, {steps} steps, about {duration(seconds)} of pretraining here"
    if found.models:
        begins = f"it starts from {found.models[0]}, with the settings of the preset adopt"
    return Draft("".join(parts), (begins, *_notes(found, name, file)))


def _notes(found: Inventory, name: str, file: Path) -> Iterator[str]:
    if not found.characters:
        yield "no text was found: name sources before you run it"
    elif found.characters < LEAST_TEXT and not found.models:
        yield f"{count(found.characters)} characters are too few for a model to learn a language from: add text"
    if found.conversations:
        yield f"{plural(len(found.conversations), 'file')} of conversations for fine-tuning"
    if found.problems:
        yield f"{plural(len(found.problems), 'file')} of questions and answers to learn to reason by"
    if name != file.stem:
        yield f"its model is called deepmill-{name}: `name` takes Latin letters"


def _give_conversations(found: Inventory, preset: dict[str, Any]) -> None:
    """Those that were found in place of the sample's, which lie elsewhere; without any, nothing reads some."""
    preset["reasoning"].pop("exclude", None)
    preset.pop("conversations", None)
    if found.conversations:
        preset["conversations"] = {"files": found.conversations}
        return
    for stage in ("sft", "grpo"):
        preset.get(stage, {}).get("replay", {}).pop("conversations", None)


def _preset(name: str, sections: Collection[str] = ()) -> dict[str, Any]:
    """A preset's values, of some sections or all."""
    values: dict[str, Any] = yaml.safe_load((PRESETS / f"{name}.yaml").read_text(encoding="utf-8"))
    return {key: value for key, value in values.items() if not sections or key in sections}


def _size(found: Inventory) -> tuple[str, int, float]:
    """Preset, steps of pretraining, and seconds that these take on this machine."""
    tokens = max(1.0, found.characters / CHARACTERS_PER_TOKEN)
    for base in BASES:
        plan = plan_training(Recipe.model_validate(_preset(base)))
        second = (os.cpu_count() or 1) * FLOPS_PER_CORE / plan.flops_per_token
        affordable = int(MOST_HOURS * 3600 * second / plan.batch_tokens)
        wanted = int(EPOCHS * tokens / plan.batch_tokens)
        steps = min(affordable, wanted)
        if steps >= LEAST_STEPS:
            break
    steps = max(LEAST_STEPS, steps)
    return base, steps, steps * plan.batch_tokens / second


def _of(found: Inventory) -> str:
    return ", ".join(found.sources) or ("a model that exists" if found.models else "text that is to be named")


def _yaml(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)


def _sources(found: Inventory) -> str:
    usable = any(not source.trouble for source in found.sources.values())
    lines = ["extract:\n", f"  sources:{'' if usable else ' {}'}\n"]
    for name, source in found.sources.items():
        lines += [f"    # {_told(source)}\n", *([f"    # not read: {source.trouble}\n"] if source.trouble else [])]
        keys = {"kind": source.kind, **source.options, "paths": source.paths}
        text = yaml.safe_dump({name: keys}, default_flow_style=None, sort_keys=False, allow_unicode=True, width=1_000)
        mark = "# " if source.trouble else ""
        lines += [f"    {mark}{line}\n" for line in text.splitlines()]
    return "".join(lines)


def _told(source: FoundSource) -> str:
    languages = ", ".join(code for code, _ in source.languages.most_common(3))
    files = f"{source.files} file{'' if source.files == 1 else 's'}, {size(source.size)}"
    return f"{files}; about {count(source.characters)} characters of text" + (f" in {languages}" if languages else "")


def _clean(found: Inventory) -> str:
    if not found.languages:
        return ""
    languages = ", ".join(found.languages)
    told = "# Languages of the text that was looked at; documents in others are rejected. [] keeps all.\n"
    return f"{told}clean:\n  languages: [{languages}]\n"


def _start(found: Inventory, preset: dict[str, Any]) -> list[str]:
    """The base model: trained from nothing, or one that was found."""
    tokenizer, pretrain = _yaml({"tokenizer": preset["tokenizer"]}), _yaml({"pretrain": preset["pretrain"]})
    if not found.models:
        return [tokenizer, "# The base model; its size and steps fit this machine.\n", pretrain]
    first, *others = map(str, found.models)
    also = f" (also found: {', '.join(others)})" if others else ""
    commented = "".join(f"# {line}\n" for line in (tokenizer + pretrain).splitlines())
    return [
        f"# Start from the model that lies there{also}; its tokenizer and chat template come with it.\n",
        _yaml({"start": {"checkpoint": [first]}}),
        "# Or train one from nothing:\n",
        commented,
    ]
