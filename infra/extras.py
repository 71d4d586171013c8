"""Which extra of this package brings a module that is not installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec

from packaging.requirements import Requirement

from infra.errors import UserError

__all__ = ["missing_module_message", "require"]

PROJECT = "deepmill"
PEOPLES = ("orchestrate", "train", "serve")
"""Extras named first where several bring it."""


def require(*modules: str) -> None:
    """Raise a UserError that names the extra, where one of the modules is not installed. Imports none of them."""
    for module in modules:
        if find_spec(module) is None:
            raise UserError(missing_module_message(module) or f"{module} is not installed")


def missing_module_message(module: str) -> str | None:
    """One line that names the extra to install; None where none brings the module, which is then a fault of ours."""
    wanted = module.partition(".")[0].replace("_", "-").lower()
    extras = [extra for extra, name in _listed() if name == wanted or name.startswith(f"{wanted}-")]
    if not extras:
        return None
    extra = min(extras, key=lambda name: PEOPLES.index(name) if name in PEOPLES else len(PEOPLES))
    whole = "" if extra not in PEOPLES else f", and '{PROJECT}[all]' all that a run needs"
    return f"{module} is not installed: pip install '{PROJECT}[{extra}]' brings it{whole}"


def _listed() -> list[tuple[str, str]]:
    """Extra and package of every requirement that stands under an extra."""
    try:
        lines = requires(PROJECT) or []
    except PackageNotFoundError:  # run from a checkout that is not installed
        return []
    found = []
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            continue
        _, _, extra = str(requirement.marker).rpartition("extra == ")
        found.append((extra.strip("\"')"), requirement.name.replace("_", "-").lower()))
    return found
