"""The recipe: one YAML file, one pydantic model, the parameter of every flow and the form that the Prefect UI draws."""

from __future__ import annotations

import re
import reprlib
import typing
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from flows.recipe.sections import DisclosureConfig, PromoteConfig, RegistryConfig
from flows.recipe.yaml_values import read_file, read_value
from infra.errors import UserError, first_line
from infra.execution import Layout
from infra.json_objects import JsonObject
from infra.nearest import hint
from infra.section import Section
from infra.units import written_out
from model.architecture.varlen import refused
from model.evaluation.sections import EvaluateConfig
from model.finetune_sections import (
    ContinuedConfig,
    DpoConfig,
    GrpoConfig,
    OnPolicyConfig,
    RejectionConfig,
    SftConfig,
    StartConfig,
)
from model.sections import ExportConfig, PretrainConfig, QuantizeConfig
from pipeline.clean.section import CleanConfig
from pipeline.dedup.section import DedupConfig
from pipeline.index.section import IndexConfig
from pipeline.recall.section import QualityConfig, RecallConfig
from pipeline.sections import (
    ConversationsConfig,
    DecontaminateConfig,
    ExtractConfig,
    ReasoningConfig,
    ShardsConfig,
    TokenizerConfig,
)

__all__ = ["PRESETS", "OnDrift", "Recipe", "keys_at", "load_recipe", "plain_name", "preset_names", "sections_at"]

PRESETS = Path(__file__).parent / "presets"


NAME = "[A-Za-z0-9][A-Za-z0-9._-]*"
"""What a name consists of, as it is part of names in MLflow and of paths."""

LONGEST_NAME = 100
"""Characters of a name: it becomes those of folders and files."""
LONGEST_SHOWN = 80
_NO_COMMAS = "a comma begins another key: write numbers as 1000 and 0.5"
_WANTED = {
    **dict.fromkeys(("model_type", "dict_type", "model_attributes_type"), "wants keys of its own below it"),
    **dict.fromkeys(("tuple_type", "list_type", "set_type"), "wants a list, as [first, second]"),
    "string_type": "wants text; put it in quotes",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "wants a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "wants a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "wants true or false"),
    "invalid_key": f"wants keys that are text; {_NO_COMMAS}",
}
"""What is said in place of pydantic's words, which are Python's."""


_KINDS = {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false"}
_PARTS_OF_UNION = ("bool", "int", "float", "str")
"""What pydantic names in the place of a value that is none of several types."""


class OnDrift(StrEnum):
    """What to do about an artifact that was made by other code than today's."""

    KEEP = "keep"
    """Use it; `plan` says so."""
    RERUN = "rerun"
    """Make it again, and after it whatever then differs."""


class Recipe(Section):
    """Everything that decides what comes out, a section per stage, and its parallelism."""

    name: str = Field("recipe", pattern=f"^{NAME}$", max_length=LONGEST_NAME)
    """Names the runs and, unless `registry.model` does, the model."""
    description: str = ""
    """One line for people."""
    on_drift: OnDrift = OnDrift.KEEP
    """What to do about an artifact that was made by other code than today's."""
    pins: dict[str, str] = Field(default_factory=dict)
    """Stage to identity: artifacts to adopt as they are."""
    execution: Layout = Layout()
    """How wide the stages run; no part of any identity."""
    extract: ExtractConfig = ExtractConfig()
    """Raw files to documents."""
    clean: CleanConfig = CleanConfig()
    """Quality rules."""
    dedup: DedupConfig = DedupConfig()
    """Exact and near duplicates."""
    recall: RecallConfig | None = None
    """Pages of a field (maths, code) found by a classifier and set apart; not done unless asked for."""
    quality: QualityConfig | None = None
    """The best documents by a classifier taught with examples of one's own; not done unless asked for."""
    reasoning: ReasoningConfig = ReasoningConfig()
    """Verifiable problems with chains of thought."""
    conversations: ConversationsConfig | None = None
    """Conversations to learn from besides; left out unless it is given."""
    decontaminate: DecontaminateConfig = DecontaminateConfig()
    """No evaluation problem in the training text."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """Byte-level BPE."""
    shards: ShardsConfig = ShardsConfig()
    """Packed token rows in Parquet."""
    index: IndexConfig | None = None
    """Where any text stands in the training tokens (`deepmill trace --text`); left out unless it is given."""
    pretrain: PretrainConfig | None = PretrainConfig()
    """The base model; null leaves it out, as `start` does."""
    student: PretrainConfig | None = None
    """A small base model, dense by choice, to distil into; left out unless it is given."""
    start: StartConfig | None = None
    """A model that exists, to begin with instead of `pretrain`; left out unless it is given."""
    continued: ContinuedConfig | None = None
    """Continued pretraining on a domain; left out unless it is given."""
    sft: SftConfig | None = SftConfig()
    """Supervised fine-tuning on chains of thought; null leaves it out."""
    dpo: DpoConfig | None = None
    """Direct preference optimization; left out unless it is given."""
    grpo: GrpoConfig | None = GrpoConfig()
    """Reinforcement learning with verifiable rewards; null leaves it out."""
    rejection: RejectionConfig | None = None
    """Rejection sampling: the policy's right answers as data (R1's third stage); left out unless it is given."""
    distill: SftConfig | None = None
    """`student` fine-tuned on the answers of `rejection`; left out unless it is given."""
    sft_second: SftConfig | None = None
    """The base model fine-tuned again on the answers of `rejection`; left out unless it is given."""
    grpo_second: GrpoConfig | None = None
    """Reinforcement on all tasks (R1's fourth stage); left out unless it is given."""
    on_policy: OnPolicyConfig | None = None
    """The student distilled further, on its own answers; left out unless it is given."""
    evaluate: EvaluateConfig | None = EvaluateConfig()
    """Held-out quality of each checkpoint; null leaves it out."""
    quantize: QuantizeConfig | None = QuantizeConfig()
    """8 and 4 bits per weight; null leaves it out."""
    export: ExportConfig | None = ExportConfig()
    """Hugging Face, GGUF and MLflow formats; null leaves it out, and the registry with it."""
    registry: RegistryConfig = RegistryConfig()
    """A version in MLflow's registry."""
    promote: PromoteConfig = PromoteConfig()
    """The gates before the champion."""
    disclosure: DisclosureConfig = DisclosureConfig()
    """What only people can say of the model and its data; no part of any identity."""

    @model_validator(mode="before")
    @classmethod
    def _begins_with_one_model(cls, values: Any) -> Any:
        """With `start` there is no pretraining, and its tokenizer is adopted, unless the recipe says otherwise."""
        start = values.get("start") if isinstance(values, dict) else None
        checkpoint = start.get("checkpoint") if isinstance(start, dict) else None
        tokenizer = values.get("tokenizer", {}) if checkpoint else None
        if not isinstance(tokenizer, dict):
            return values
        adopted = [checkpoint] if isinstance(checkpoint, str) else checkpoint
        return {"pretrain": None} | values | {"tokenizer": {"adopt": adopted} | tokenizer}

    @model_validator(mode="after")
    def _one_beginning(self) -> Recipe:
        """Of two base models one would be trained for nothing."""
        if self.start is not None and self.pretrain is not None:
            raise ValueError(
                "start names a model to begin with, and pretrain makes one: leave one out (pretrain: null)"
            )
        return self

    @model_validator(mode="after")
    def _limits_name_sources(self) -> Recipe:
        """A limit for a source that there is not would go unnoticed."""
        known = {*self.extract.sources, *(self.recall.domains if self.recall else ())}
        named = {
            f"{stage}.max_loss_by_source": getattr(self, stage).max_loss_by_source
            for stage in ("extract", "clean", "dedup", "decontaminate", "shards")
        } | ({} if self.pins else self._mixtures())
        for key, sources in named.items() if self.extract.sources else ():
            for source in sources:
                if key.endswith("mixture") and not any(sources.values()):
                    raise ValueError(f"{key} weighs every source with 0; give one of them more")
                if source not in known:
                    raise ValueError(f"{key} names {source}, which is no source; there are {', '.join(sorted(known))}")
        return self

    def _mixtures(self) -> dict[str, dict[str, float]]:
        """The weights of sources that there are, by their keys; a source left out would stop a stage hours from now."""
        found = {}
        for stage in type(self).model_fields:
            section = getattr(self, stage)
            for key, holder in ((stage, section), (f"{stage}.replay", getattr(section, "replay", None))):
                if mixture := getattr(holder, "mixture", None):
                    found[f"{key}.mixture"] = mixture
        return found

    @model_validator(mode="after")
    def _four_bits_are_four(self) -> Recipe:
        """What `quantize` would refuse after everything else was made, where the architecture is known now."""
        if self.quantize and self.pretrain and not self.quantize.has_four_bits(bool(self.pretrain.model.moe_layers)):
            raise ValueError(
                "quantize: every matrix of the int4 model would have 8 bits or more, as those of int8 do: two names "
                "for one size; set quantize.linear to q4_0"
            )
        return self

    @model_validator(mode="after")
    def _experts_are_left(self) -> Recipe:
        """Likewise what pruning would be refused for."""
        if self.quantize and self.quantize.prune.share and self.pretrain and not self.start:
            self.quantize.prune.architecture(self.pretrain.model)
        return self

    @model_validator(mode="after")
    def _heads_fit_the_kernel(self) -> Recipe:
        """Likewise a kernel of attention that is too narrow for the model."""
        wanted = self.execution.of("pretrain").attention
        if self.pretrain and (reason := refused(wanted, self.pretrain.model.attention_width)):
            raise ValueError(reason)
        return self

    def has(self, stage: str) -> bool:
        """Whether the recipe has this stage: its section is not null."""
        return getattr(self, stage) is not None

    @property
    def model_name(self) -> str:
        """Name of the registered model."""
        return self.registry.model or f"deepmill-{self.name}"


def plain_name(text: str) -> str:
    """A name for runs and models that says what `text` says, as far as Latin letters, digits and ``._-`` can."""
    if re.fullmatch(NAME, text):
        return text
    latin = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub("[^A-Za-z0-9._-]+", "-", latin).strip("-._") or "recipe"


def preset_names() -> list[str]:
    """Recipes that come with the project."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_recipe(source: str, settings: Sequence[str] = ()) -> Recipe:
    """The recipe of a preset name or a YAML file, with ``section.key=value`` settings (values in YAML) laid over it.

    Raises:
        UserError: no such recipe, unreadable YAML, an unknown key (the nearest right one is named) or a bad value.
    """
    path = Path(source)
    if path.is_dir():
        raise UserError(f"{source}: a folder; deepmill new {source} writes a recipe for what lies in it")
    if not path.suffix:
        path = PRESETS / f"{source}.yaml"
        if not path.exists():
            names = preset_names()
            near = hint(source, names, f"there are {', '.join(names)}, or give a .yaml file")
            raise UserError(f"{source}: no such recipe; {near}")
    try:
        values = read_file(path) or {}
    except OSError as error:
        raise UserError(f"{path}: cannot read the recipe ({error.strerror}); check the path") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; save the recipe as UTF-8") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except (RecursionError, ValueError) as error:  # nested a thousand deep; a number of thousands of digits
        raise UserError(f"{path}: no recipe ({first_line(error)}); correct what is too long or too deep") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: a recipe is a mapping of sections, not {_KINDS.get(type(values), 'one value')}")
    values.setdefault("name", plain_name(path.stem))
    for setting in settings:
        _lay_over(values, setting)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UserError(_explain(error, source, settings)) from None


def _lay_over(values: JsonObject, setting: str) -> None:
    key, equals, text = (part.strip() for part in setting.partition("="))
    if not equals or not all(key.split(".")):
        raise UserError(f"--set {setting}: write it as section.key=value")
    try:
        value = read_value(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        raise UserError(f"--set {setting[:LONGEST_SHOWN]}: the value is not valid YAML") from None
    *parents, last = key.split(".")
    here = values
    for parent in parents:
        below = here.setdefault(parent, {})
        if below is None:
            raise UserError(f"--set {setting}: {parent} is null, which leaves it out; set {parent}={{{last}: {text}}}")
        if not isinstance(below, dict):
            raise UserError(f"--set {setting}: {parent} holds a value, not a section")
        here = below
    if last == "kind" and here.get("kind") != value:
        here.clear()  # another variant of a union: keys of the old one mean nothing to it
    here[last] = value


def _explain(error: ValidationError, source: str, settings: Sequence[str]) -> str:
    problems = error.errors(include_url=False)
    first = next((each for each in problems if each["type"] == "invalid_key"), problems[0])
    location = _written([str(part) for part in first["loc"] if part != "[key]"])
    if is_any := location[-1:] != [] and location[-1] in _PARTS_OF_UNION:
        location.pop()
    key = ".".join(location)
    where = "--set" if any(setting.startswith(f"{key}=") for setting in settings) else source
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{where}: {key}: no such key; {_meant(location)}{more}"
    if first["type"].startswith("union_tag"):
        kinds = [str(model.model_fields["kind"].default) for model in sections_at(location)]
        given = first.get("ctx", {}).get("tag")
        said = f"kind: no such kind as {given}" if given else "kind is missing"
        return f"{where}: {key}: {said}; {_nearest(given or '', kinds)}{more}"
    if first["type"] == "missing":
        return f"{where}: {key} is missing{more}"
    is_section = isinstance(first.get("input"), dict) and first["type"] not in _WANTED
    if is_section:  # of which something is said that its keys do not say
        return ": ".join([where, *([key] if key else []), first["msg"].removeprefix("Value error, ")]) + more
    said = _WANTED.get(first["type"], first["msg"].removeprefix("Value error, "))
    if is_any:
        said = "wants text, a number, true or false, or a list of texts"
    if first["type"] == "too_short":
        said = f"wants {first['ctx']['min_length']} or more"
    if first["type"] == "string_pattern_mismatch" and first["ctx"]["pattern"] == f"^{NAME}$":
        said = "wants letters without accents, digits and . _ -, the first a letter or a digit"
    return f"{where}: {key}: {said}, not {reprlib.repr(first.get('input'))[:200]}{_remedy(first, location)}{more}"


def _remedy(problem: Mapping[str, Any], location: Sequence[str]) -> str:
    """What to write instead, where what is given tells it."""
    given = problem.get("input")
    if problem["type"] in ("int_parsing", "float_parsing") and isinstance(given, str):
        number = written_out(given)
        is_usable = number is not None and (number == int(number) or problem["type"] == "float_parsing")
        return f"; write {number:.12g}" if number is not None and is_usable and abs(number) < 1e12 else ""
    if _WANTED.get(problem["type"]) == _WANTED["dict_type"] and isinstance(given, bool):
        return f"; write {location[-1]}: {{}} for its defaults, or null to leave it out"
    if _WANTED.get(problem["type"]) == _WANTED["dict_type"] and isinstance(given, str) and ":" in given:
        return "; a blank is missing behind the colon"
    return ""


def _meant(location: Sequence[str]) -> str:
    """What a key was probably meant to be: one that stands elsewhere, or the nearest of those of its section."""
    *above, name = location
    if name.isdecimal():
        return _NO_COMMAS
    first, dot, rest = name.partition(".")
    if dot and rest and first in keys_at(above):
        return f"write {rest} below {first}"
    if close := hint(name, keys_at(above), "", 0.8):
        return close
    places = [".".join(place) for place in _places_of(name)]
    if near := [place for place in places if place.startswith(".".join(above))] or places:
        return f"it stands in {', '.join(near[:3])}"
    return _nearest(name, keys_at(above))


def _places_of(name: str, below: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The sections that have a key of that name, in the order of the recipe."""
    for key in keys_at(below, strict=True):
        if key == name and below:
            yield below
        if len(below) < 2:
            yield from _places_of(name, (*below, key))


def _written(location: Sequence[str]) -> list[str]:
    """A place as the recipe has it: pydantic names the variant of a tagged union besides."""
    found: list[str] = []
    for part in location:
        below = sections_at(found)
        is_variant = any(part == model.model_fields.get("kind", Field()).default for model in below)
        if not is_variant or any(part in model.model_fields for model in below):
            found.append(part)
    return found


def _nearest(given: str, known: Sequence[str]) -> str:
    return hint(given, known, f"there are {', '.join(known)}", 0.5)


def sections_at(location: Sequence[str], *, strict: bool = False) -> list[type[BaseModel]]:
    """The models at a place of the recipe, through mappings, lists and the variants of unions.

    `strict` takes no name that leads nowhere; else it is passed over, as pydantic's errors name more than keys.
    """
    models: list[Any] = [Recipe]
    for part in location:
        below: list[Any] = []
        for model in models:
            if isinstance(model, type) and issubclass(model, BaseModel):
                if part in model.model_fields:
                    below += _variants(model.model_fields[part].annotation)
                elif part == model.model_fields.get("kind", Field()).default:
                    below.append(model)  # pydantic names the variant of a tagged union in the location
            elif typing.get_origin(model) in (dict, list, tuple):
                below += _variants([each for each in typing.get_args(model) if each is not ...][-1])
        models = below or ([] if strict else models)
    return [model for model in models if isinstance(model, type) and issubclass(model, BaseModel)]


def keys_at(location: Sequence[str], *, strict: bool = False) -> list[str]:
    """Keys of the sections at a place of the recipe, each once; `strict` as in `sections_at`."""
    return list(dict.fromkeys(name for model in sections_at(location, strict=strict) for name in model.model_fields))


def _variants(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _variants(typing.get_args(annotation)[0])
    if origin is typing.Union or str(type(annotation)) == "<class 'types.UnionType'>":
        return [variant for argument in typing.get_args(annotation) for variant in _variants(argument)]
    return [annotation]
