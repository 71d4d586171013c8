"""The part `quality` of `bench.release`: what is lost, beside peers that have no fewer bits."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from bench.release_weights import Contenders, MissingError
from bench.table import Row, row
from model.release.divergence import Divergence, Reference
from model.release.quantized import fill
from model.release.rows import cut, text_rows

__all__ = ["quality"]

EIGHT = ("q8_0", "rtn8", "torchao8")
ROUNDING = ("rtn4", "rtn4 as 4.5", "rtn4 g16", "rtn4 as ours")
LOW = ("q4_k_m", "q4_k_m imatrix", "rtn4 as 3.6")
LIBRARIES = ("torchao4 g64", "torchao4 g32", "q4_k", "q4_k_m", "q4_k_m imatrix", "llmcompressor")
OURS = ("int8", "int4", "int4 4.5", "int4 3.6", "int4_uniform", "int4_uniform gradients")
SAME = 0.01
"""Bits per weight within which two count as equal."""


def quality(contenders: Contenders) -> list[Row]:
    """Rows of divergence, perplexity, size and cost; every contender with its bits is printed first."""
    held_out = text_rows(contenders.made["shards"], "validation", 8 if contenders.quick else 96, 0)
    reference = Reference(contenders.model, list(cut(held_out, 4)))
    plain = reference.compare(contenders.model)
    print(f"full precision: perplexity {plain.perplexity:.4f}, {reference.tokens:,} held-out tokens")
    found: dict[str, Divergence] = {}
    for name in dict.fromkeys(("q4_k_m", *OURS, *EIGHT, *ROUNDING, *LIBRARIES, *LOW)):  # the first is others' budget
        try:
            weights = contenders.weights(name)
        except MissingError as reason:
            print(f"{name:<15} missing: {reason}", flush=True)
            continue
        work = copy.deepcopy(contenders.model)
        fill(work, weights)
        found[name] = reference.compare(work)
        print(
            f"{name:<15} {contenders.bits(name):6.3f} bits  KL {found[name].kl:.3e}  top-1 {found[name].top1:.4f}  "
            f"perplexity {found[name].perplexity:.4f}  {contenders.seconds[name]:.1f} s",
            flush=True,
        )

    def peers(ours: str, names: Sequence[str]) -> dict[str, float | None]:
        """Those that have as many bits or more, with their bits in the name, and those that are missing."""
        told: dict[str, float | None] = {}
        for name in names:
            if name not in found:
                told[name] = None
            elif contenders.bits(name) > contenders.bits(ours) - SAME:
                told[f"{name} ({contenders.bits(name):.2f})"] = found[name].kl * 1e6
        return told

    def lost(metric: str, ours: str, names: Sequence[str], target: float | None) -> Row:
        bits = contenders.bits(ours)
        return row(
            f"divergence, {bits:.2f} bits, {metric}",
            "µnat",
            found[ours].kl * 1e6,
            peers(ours, names),
            target,
            most=True,
        )

    def rise(name: str) -> float:
        return 100 * (found[name].perplexity / plain.perplexity - 1)

    times = {name: contenders.seconds[name] for name in LIBRARIES if name in found}
    return [
        lost("of Q8_0's", "int8", ("q8_0",), 1.0),
        lost("of 8-bit peers'", "int8", ("rtn8",), None),
        lost("of rounding's", "int4", ROUNDING, 0.25),
        lost("of the libraries'", "int4", LIBRARIES, 1.0),
        lost("of rounding's", "int4 4.5", ROUNDING[:1], 0.25),
        lost("of rounding's with our types", "int4 4.5", ROUNDING[1:2], None),
        lost("of the libraries'", "int4 4.5", ("torchao4 g64", "q4_k", "llmcompressor"), 1.0),
        lost("of Q4_K_M's", "int4 3.6", LOW[:2], 1.0),
        lost("of rounding's with our types", "int4 3.6", LOW[2:], None),
        lost("of rounding's, 4 bits everywhere", "int4_uniform", ROUNDING[:1], 0.25),
        lost("of rounding's, 4 bits everywhere, by gradients", "int4_uniform gradients", ROUNDING[:1], 0.25),
        lost("of llmcompressor's, 4 bits everywhere", "int4_uniform", ("llmcompressor",), 1.0),
        row("perplexity rise, 8 bits", "%", rise("int8"), {}, 0.1, most=True),
        row("perplexity rise, 4 bits", "%", rise("int4"), {}, 1.0, most=True),
        row("time to quantize, 4 bits", "s", contenders.seconds["int4"], times, None),
        row("memory, peak of the process", "MiB", _peak(), {}, None),
    ]


def _peak() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
