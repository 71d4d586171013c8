"""The recipe: one YAML file, one pydantic model, the parameter of every flow and the form that the Prefect UI draws."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from flows.recipe.mistakes import mistake
from flows.recipe.names import LONGEST_NAME, NAME, plain_name
from flows.recipe.sections import DisclosureConfig, PromoteConfig, RegistryConfig
from flows.recipe.yaml_values import near_file, read_file, read_value, yaml_mistake
from infra.errors import UserError, first_line
from infra.execution import Layout
from infra.json_objects import JsonObject
from infra.section import Section
from model.architecture.varlen import refused
from model.evaluation.sections import EvaluateConfig, EvaluateReleaseConfig
from model.finetune_sections import (
    ContinuedConfig,
    DpoConfig,
    GrpoConfig,
    OnPolicyConfig,
    RejectionConfig,
    SftConfig,
    StartConfig,
    Trained,
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

__all__ = ["PRESETS", "OnDrift", "Recipe", "load_recipe", "preset_names"]

PRESETS = Path(__file__).parent / "presets"
LONGEST_SHOWN = 80
_KINDS = {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false"}


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
        adopted = self.continued is not None and self.continued.checkpoint  # `flows.recipe.plan` looks at that one
        if self.quantize and self.quantize.prune.share and self.pretrain and not adopted:
            self.quantize.prune.architecture(self.pretrain.model)
        return self

    @model_validator(mode="after")
    def _heads_fit_the_kernel(self) -> Recipe:
        """Likewise a kernel of attention that is too narrow for the model."""
        wanted = self.execution.of("pretrain").attention
        if self.pretrain and (reason := refused(wanted, self.pretrain.model.attention_width)):
            raise ValueError(reason)
        return self

    @model_validator(mode="after")
    def _chosen_experts_have_one_rank(self) -> Recipe:
        """Likewise expert-selective fine-tuning on several ranks."""
        for stage in ("sft", "sft_second", "distill"):
            section = getattr(self, stage)
            if section and section.trained is Trained.EXPERTS and self.execution.of(stage).ranks > 1:
                raise ValueError(f"{stage}.trained: experts runs on one rank; set execution.stages.{stage}.ranks to 1")
        return self

    def section(self, stage: str) -> Section | None:
        """What a stage is told: the section of its name, or for `evaluate_release` those of others; None where it is
        left out."""
        found: Section | None = self._evaluate_release() if stage == "evaluate_release" else getattr(self, stage)
        return found

    def _evaluate_release(self) -> EvaluateReleaseConfig | None:
        """Asked of what is served where that is another model than the last one that `evaluate` measures."""
        if not (self.evaluate and self.quantize and self.export):
            return None
        if not self.quantize.changes_model(self.export.precision):
            return None
        return EvaluateReleaseConfig(**dict(self.evaluate), precision=self.export.precision)

    def has(self, stage: str) -> bool:
        """Whether the recipe has this stage: its section is not null."""
        return self.section(stage) is not None

    @property
    def model_name(self) -> str:
        """Name of the registered model."""
        return self.registry.model or f"deepmill-{self.name}"


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
            others = f"there are {', '.join(names)}, or give a .yaml file"
            near = near_file(Path(f"{source}.yaml"), others, names)
            raise UserError(f"{source}: no such recipe; {near}")
    try:
        values = read_file(path)
    except OSError as error:
        remedy = near_file(path, "check the path")
        raise UserError(f"{path}: cannot read the recipe ({error.strerror}); {remedy}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; save the recipe as UTF-8") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {yaml_mistake(error)}") from None
    except (RecursionError, ValueError) as error:  # nested a thousand deep; a number of thousands of digits
        raise UserError(f"{path}: no recipe ({first_line(error)}); correct what is too long or too deep") from None
    if values is None:
        raise UserError(f"{path}: empty; deepmill new FOLDER writes a recipe for a folder of text")
    if not isinstance(values, dict):
        raise UserError(f"{path}: a recipe is a mapping of sections, not {_KINDS.get(type(values), 'one value')}")
    values.setdefault("name", plain_name(path.stem))
    for setting in settings:
        _lay_over(values, setting)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UserError(mistake(error, Recipe, source, settings)) from None


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
