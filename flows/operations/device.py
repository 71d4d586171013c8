"""Whether a model fits a device, and what to change where it does not: ``deepmill doctor --device MODEL``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from flows.registry.aliases import IDENTITY
from flows.registry.names import tags_of
from infra.errors import UserError
from infra.settings import Settings
from infra.units import size
from model.release.footprint import CELLS, DeviceFile, Footprint, Loading, model_files, read_device_file

__all__ = ["Device", "Fit", "device_files", "fits"]

GGUF = ".gguf"
FEWEST = 16
"""Tokens of the prompt that are read at once where every byte counts."""


@dataclass(frozen=True)
class Device:
    """What a model is to run on."""

    memory: int
    """Bytes that it may take."""
    context: int | None = None
    """Tokens of question and answer; all that the model is meant for when None."""


@dataclass(frozen=True)
class Fit:
    """One precision on the device."""

    file: DeviceFile
    context: int
    footprint: Footprint
    fits: bool
    advice: str
    """What to change, with what it would take then; empty where it fits."""


def device_files(settings: Settings, model: str) -> list[DeviceFile]:
    """The GGUF files of MODEL@ALIAS, MODEL/VERSION, a folder or a file, the largest first.

    Raises:
        UserError: there is none, or one cannot be read.
    """
    path = Path(model)
    if path.is_file():
        return [read_device_file(path)]
    if path.suffix.lower() == GGUF:
        raise UserError(f"{model}: no such file; name one, a folder that holds one, or MODEL@ALIAS")
    folder = path if path.is_dir() else _export_folder(settings, model)
    found = model_files(folder) + model_files(folder / "gguf")
    if not found:
        raise UserError(f"{folder}: no GGUF file; export the model with export.gguf: true")
    return sorted(map(read_device_file, found), key=lambda file: -file.weights)


def _export_folder(settings: Settings, model: str) -> Path:
    from infra.open_store import open_store

    identity = tags_of(settings, model).get(IDENTITY)
    if identity is None:
        raise UserError(f"{model}: its version does not say what it was made from; name its folder or GGUF file")
    return open_store(settings, writes=False).verified("export", identity)


def fits(files: list[DeviceFile], device: Device) -> Iterator[Fit]:
    """Every file on `device`."""
    for file in files:
        context = min(device.context or file.context, file.context)
        found = file.footprint(context)
        good = found.total <= device.memory
        yield Fit(file, context, found, good, "" if good else "; ".join(_advice(file, context, device, found.total)))


def _advice(file: DeviceFile, context: int, device: Device, total: int) -> Iterator[str]:
    """One change after the other, the cheapest in quality first, until it fits; then what is missing still."""
    changes: tuple[tuple[str, Callable[[Loading], Loading]], ...] = (
        ("the cache in 8 bits", lambda how: replace(how, in_8_bits=file.takes_8_bits)),
        (f"{FEWEST} tokens of the prompt at once", lambda how: replace(how, batch=FEWEST)),
        ("weights not repacked (slower)", lambda how: replace(how, repack=False)),
    )
    how = Loading()
    for text, change in changes:
        changed = change(how)
        now = file.footprint(context, changed).total
        if now >= total:
            continue
        total, how = now, changed
        yield f"{text}: {size(total)}"
        if total <= device.memory:
            return
    if most := file.longest_context(device.memory, how):
        yield f"and a context of {most:,} tokens"
    else:
        least = file.footprint(CELLS, how)
        yield from _smaller(file, least, least.total - device.memory)


def _smaller(file: DeviceFile, least: Footprint, missing: int) -> Iterator[str]:
    """What another model would save, where no setting helps this one."""
    yield f"{size(least.total)} at the least, {size(missing)} too much: take a lower precision or a smaller model"
    if file.spare:
        saved = size(file.expert_bytes * file.spare / file.experts)
        yield f"{file.spare} of the {file.experts} experts of each layer pruned save {saved} (quantize.prune)"
    if least.vocabulary > least.total / 10:
        saved = size(least.vocabulary / 2)
        yield f"half of the vocabulary trimmed saves {saved} and its rows of the weights (quantize.min_token_count)"
