"""Checkpoints without a layout: every rank writes the pieces it owns, and any set of ranks reads the pieces it needs.

A piece is a run of one parameter's flattened values, in the names and shapes of the plain `Transformer`, whatever the
engine made of it: ZeRO's partitions, AutoEP's experts, a single process. So a checkpoint of two expert-parallel ranks
under ZeRO-1 is read by one process, or by eight ranks under ZeRO-3, without a conversion in between, and in the layout
that wrote it every value comes back to the bit. Files are safetensors; nothing is pickled (DeepSpeed's own universal
checkpoints are, and load under another expert-parallel width without an error).

A folder holds ``rank-*.safetensors`` with tensors named ``kind/parameter@start`` and ``index.json``, which lists
shapes, layout and the checksum of every file, and is written last.
"""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from infra.durable import sync
from infra.errors import UserError
from infra.facts import Facts
from infra.hashing import file_digest
from model.facts.training import LayoutFacts

__all__ = [
    "BUFFER",
    "INDEX",
    "MASTER",
    "MOMENTS",
    "CheckpointIndex",
    "CheckpointReader",
    "Fragment",
    "Piece",
    "kept_buffers",
    "shapes_of",
    "write_fragments",
]

INDEX = "index.json"
MASTER = "weight"
"""Kind of the fp32 weights that the optimizer keeps."""
MOMENTS = ("exp_avg", "exp_avg_sq", "momentum")
"""Kinds of what the optimizers keep besides: AdamW the first two, Muon the third."""
BUFFER = "buffer"
"""Kind of what is trained without a gradient: the selection biases."""


@dataclass(frozen=True)
class Piece:
    """Where a run of a local tensor's flattened values belongs: `name` at `start`, `length` values."""

    name: str
    start: int
    length: int


@dataclass(frozen=True)
class Fragment:
    """Values [length] of one parameter from flat position `start` on."""

    kind: str
    name: str
    start: int
    values: Tensor

    @property
    def key(self) -> str:
        """Name of its tensor in the file."""
        return f"{self.kind}/{self.name}@{self.start}"


def kept_buffers(model: torch.nn.Module) -> list[tuple[str, Tensor]]:
    """The buffers that belong into a checkpoint."""
    kept = model.state_dict()
    return [(name, buffer) for name, buffer in model.named_buffers() if name in kept]


def shapes_of(model: torch.nn.Module) -> dict[str, list[int]]:
    """Shape of every parameter, tied ones once, and of every kept buffer."""
    return {name: list(value.shape) for name, value in (*model.named_parameters(), *kept_buffers(model))}


def write_fragments(path: Path, fragments: Iterable[Fragment], *, are_copies: bool = False) -> str:
    """Write one rank's file and see it on disk; returns its checksum.

    The values are copied to memory of their own, as safetensors wants them, unless they `are_copies` already.
    """
    tensors = {
        piece.key: piece.values if are_copies else piece.values.detach().to("cpu", copy=True).contiguous()
        for piece in fragments
    }
    save_file(tensors, path)
    sync(path)
    return file_digest(path)


class CheckpointIndex(Facts):
    """What ``index.json`` says of a checkpoint."""

    format: int
    step: int
    """Finished steps."""
    fingerprint: str
    """Of the run."""
    layout: LayoutFacts
    optimizer_step: int
    shapes: dict[str, list[int]]
    files: dict[str, str]
    """SHA-256 by name."""

    @classmethod
    def of(cls, folder: Path) -> CheckpointIndex:
        """Of the checkpoint in a folder.

        Raises:
            OSError, ValueError: there is none, or it is another version's.
        """
        return cls.model_validate_json((folder / INDEX).read_bytes())


class CheckpointReader:
    """Reads any part of any parameter from a checkpoint folder, whoever wrote it.

    Raises:
        UserError: a file is missing, not readable, or (`verify`) does not match its checksum.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = CheckpointIndex.of(folder)
        self._starts: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._places: dict[tuple[str, str], list[tuple[int, str, str]]] = defaultdict(list)
        self._handles: dict[str, safe_open] = {}
        for name in self.index.files:
            if name.endswith(".safetensors"):
                self._open(name)
        for key, places in self._places.items():
            places.sort()
            self._starts[key] = [start for start, _, _ in places]

    def _open(self, name: str) -> None:
        try:
            handle = safe_open(self.folder / name, framework="pt")
        except (OSError, SafetensorError) as error:
            raise UserError(f"{self.folder / name}: missing or damaged ({error})") from None
        self._handles[name] = handle
        for key in handle.keys():  # noqa: SIM118  # not a mapping
            kind, _, rest = key.partition("/")
            parameter, _, start = rest.rpartition("@")
            self._places[kind, parameter].append((int(start), name, key))

    def verify(self, share: int = 0, shares: int = 1) -> None:
        """Compare the checksums of every `shares`-th file, so that ranks can divide the work."""
        for name, expected in sorted(self.index.files.items())[share::shares]:
            path = self.folder / name
            if not path.exists():
                raise UserError(f"{path}: missing")
            if file_digest(path) != expected:
                raise UserError(f"{path}: damaged (its checksum differs from {INDEX})")

    def check_shapes(self, shapes: Mapping[str, list[int]]) -> None:
        """UserError when the model is another one than the checkpoint's, naming the first difference."""
        there = self.index.shapes
        for name in sorted(there.keys() | shapes.keys()):
            if there.get(name) != shapes.get(name):
                hint = "; the vocabulary has changed" if name in ("model.embed_tokens.weight", "lm_head.weight") else ""
                raise UserError(
                    f"{self.folder}: {name} is {there.get(name, 'absent')} in the checkpoint and "
                    f"{shapes.get(name, 'absent')} in the model{hint}; move the folder away to start again"
                )

    def has(self, kind: str, name: str) -> bool:
        """Whether there is anything of this kind for a parameter (a moment of one never updated is not there)."""
        return (kind, name) in self._places

    def read(self, kind: str, name: str, start: int = 0, length: int | None = None) -> Tensor:
        """Values [length] of a parameter from flat position `start`; all of them by default.

        Raises:
            UserError: no rank wrote some of them.
        """
        if length is None:
            length = math.prod(self.index.shapes[name]) - start
        key, stop, at = (kind, name), start + length, start
        parts: list[Tensor] = []
        number = max(0, bisect.bisect_right(self._starts[key], start) - 1)
        while at < stop:
            if number >= len(self._places[key]) or self._places[key][number][0] > at:
                raise UserError(f"{self.folder}: {name} lacks the {kind} from value {at} on; the checkpoint is torn")
            begin, file, stored = self._places[key][number]
            view = self._handles[file].get_slice(stored)
            end = min(begin + view.get_shape()[0], stop)
            if end > at:
                parts.append(view[at - begin : end - begin])
                at = end
            number += 1
        return parts[0] if len(parts) == 1 else torch.cat(parts) if parts else torch.empty(0)

    def read_pieces(self, kind: str, pieces: Iterable[Piece]) -> Iterator[Tensor]:
        """`read` for each piece."""
        return (self.read(kind, piece.name, piece.start, piece.length) for piece in pieces)
