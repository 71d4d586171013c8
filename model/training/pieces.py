"""Where the parameters of an engine's model belong in the plain `Transformer`.

AutoEP keeps the gate, up and down projections of this rank's experts in three tensors ``w1``, ``w3`` [e, F, D] and
``w2`` [e, D, F]; the plain model has ``gate_up_proj`` [E, 2F, D] and ``down_proj`` [E, D, F]. All else has the same
shape, and the router's name changes.

Letters: E routed experts, e those of this rank, D hidden, F expert width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from model.training.universal import Piece

__all__ = ["is_expert", "pieces_of", "plain_name"]

_EXPERTS = ".mlp.experts.w"


def is_expert(name: str) -> bool:
    """Whether AutoEP's parameter of this name holds experts of one rank."""
    return _EXPERTS in name


def plain_name(name: str) -> str:
    """The plain model's name of a parameter or buffer that is not an expert's."""
    return name.replace(".mlp.router.gate.", ".mlp.gate.").replace(".mlp.router.", ".mlp.gate.")


def pieces_of(
    name: str, shape: Sequence[int], shapes: Mapping[str, Sequence[int]], ep_rank: int, start: int, length: int
) -> list[tuple[int, Piece]]:
    """Local offset and place in the plain model of each run among the flat values [start, start + length).

    Args:
        name: the parameter's name in the engine's model.
        shape: of the whole local parameter.
        shapes: of the plain model's parameters.
        ep_rank: which share of the experts this rank holds.
    """
    if not is_expert(name):
        return [(0, Piece(plain_name(name), start, length))]
    prefix, _, which = name.rpartition(".")
    local, rows, columns = shape
    size = rows * columns  # of one expert's matrix here
    target = f"{prefix}.down_proj" if which == "w2" else f"{prefix}.gate_up_proj"
    stride = shapes[target][1] * shapes[target][2]  # of one expert there
    shift = size if which == "w3" else 0
    found = []
    at, stop = start, start + length
    while at < stop:
        expert, inside = divmod(at, size)
        run = min(size - inside, stop - at)
        found.append((at - start, Piece(target, (ep_rank * local + expert) * stride + shift + inside, run)))
        at += run
    return found
