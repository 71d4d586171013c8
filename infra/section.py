"""Base class of every recipe section, and the marker for fields that name files outside the store."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict

__all__ = ["Added", "External", "ExternalPaths", "Section"]


class Section(BaseModel):
    """A frozen group of recipe keys; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class External:
    """Marks a field that names external files: in a stage's identity their content digests stand in for the paths."""


class Added:
    """Marks a field that came after artifacts had been made: at its default it is no part of an identity, so that they
    are still found.
    """


ExternalPaths = Annotated[tuple[str, ...], External()]
"""Local paths, folders, globs or ``s3://``/``https://`` addresses of files that are not artifacts."""
