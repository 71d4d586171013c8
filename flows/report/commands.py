"""What to type after a run: commands that work where they are read."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from flows.recipe.recipe import preset_names
from flows.run.run_view import Run, number
from infra.settings import Settings
from infra.units import shorten

__all__ = ["in_store", "next_commands", "path_of_program"]


def path_of_program(name: str) -> str:
    """How to call a program from the shell: by name where that works, else by the path beside this Python."""
    beside = Path(sys.executable).parent / name
    if shutil.which(name) or not beside.exists():
        return name
    return shlex.quote(str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside))


def in_store(run: Run, program: str = "deepmill") -> str:
    """How to call a program for the store of a run: named where it is not the one that a command by itself takes."""
    root = str(run.record.root or "")
    if not root or root == Settings.model_fields["root"].default:
        return program
    return f"DEEPMILL_ROOT={shlex.quote(shorten(root, 4096))} {program}"


def _recipe_file(name: str) -> str:
    """What to give for a recipe of which only the name is known: `deepmill new` calls its files by it."""
    return name if name in preset_names() else f"{name}.yaml"


def next_commands(run: Run, program: str = "deepmill", recipe: str = "") -> list[str]:
    """Commands worth trying after this run; the first about what there is, the last one a change.

    They name the store where it is not the one that a command without settings takes.
    """
    recipe = shlex.quote(shorten(recipe or _recipe_file(run.recipe_name), 200))
    program = in_store(run, program)
    report = f"{program} report {shlex.quote(shorten(run.run_id, 200))}"
    if run.state != "completed":
        return [f"{program} run {recipe}", report, f"{program} plan {recipe}"]
    steps = number(run.recipe, "pretrain.steps")
    change = f"{program} plan {recipe}" + (f" --set pretrain.steps={2 * int(steps)}" if steps else "")
    if not run.release.model:
        return [report, change]
    model = shorten(run.release.model, 200)
    version = run.release.version
    reference = f"{model}@{run.release.alias or 'champion'}"
    if not run.release.promoted and version:
        reference = f"{model}/{shorten(version, 40)}"
    reference = shlex.quote(reference)
    return [f"{program} chat {reference}", f"{program} serve {reference}", change]
