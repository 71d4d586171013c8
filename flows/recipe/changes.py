"""The keys that people change from run to run: a short form above the whole recipe's, which is sixty screens long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, create_model, model_serializer

from flows.recipe.keys import Key, find_key
from flows.recipe.recipe import Recipe
from infra.errors import UserError, first_problem
from infra.json_objects import JsonObject
from infra.section import Section

__all__ = ["OFTEN", "Changes", "laid_over"]

OFTEN = (
    "extract.sources",
    "pretrain.steps",
    "pretrain.batch_size",
    "pretrain.learning_rate",
    "pretrain.seed",
    "sft.steps",
    "sft.learning_rate",
    "grpo.steps",
    "evaluate.problems",
    "promote.alias",
    "execution.workers",
)


def _field(path: str) -> Any:
    key: Key = find_key(path)
    kind: Any = key.field.annotation
    for constraint in key.field.metadata:
        kind = Annotated[kind, constraint]
    return kind | None, Field(None, title=path, description=key.help, json_schema_extra=_may_be_left_out)


def _may_be_left_out(schema: JsonObject) -> None:
    """Forms show one box for a value that may be left out, and a choice of two for one that may be null."""
    schema |= schema.pop("anyOf")[0]
    del schema["default"]


class _OnlyGiven(Section):
    """Written without what was left out: forms take null for a value."""

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> JsonObject:
        return {key: value for key, value in handler(self).items() if value is not None}


if TYPE_CHECKING:
    Changes = Section
else:
    Changes = create_model(
        "Changes",
        __base__=_OnlyGiven,
        __doc__="What is other than in the recipe below; what is left empty is as it says.",
        **{path.replace(".", "_"): _field(path) for path in OFTEN},
    )


def laid_over(recipe: Recipe, changes: Changes) -> Recipe:
    """The recipe with the changes in it.

    Raises:
        UserError: a change is of a section that the recipe leaves out, or does not go with the rest of it.
    """
    wanted = changes.model_dump(mode="json")
    if not wanted:
        return recipe
    values = recipe.model_dump(mode="json")
    for path in OFTEN:
        section, _, name = path.partition(".")
        if (field := f"{section}_{name}") in wanted:
            if values[section] is None:
                raise UserError(f"changes: {path}: the recipe leaves {section} out; leave the change empty")
            values[section][name] = wanted[field]
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UserError(f"changes: {first_problem(error)}") from None
