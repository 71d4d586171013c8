"""How to spread a training over a cluster, how long it takes, and what the scaling laws would have chosen.

Layouts are those of the project's engine: expert parallelism, ZeRO and data parallelism, with activation checkpointing
where nothing else fits. Those that fit are ordered by what each device has to send per step, recomputation counted as
the time it takes. Times follow from one number, the share of the peak that is reached: by default that of DeepSeek-V3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from model.architecture.config import ModelConfig, count_parameters
from model.planning.costs import (
    Layout,
    Memory,
    expert_parameters,
    flops_per_token,
    training_memory,
)

__all__ = ["DEVICES", "Cluster", "Device", "ScalingAdvice", "Suggestion", "scaling_advice", "suggest", "training_days"]

UTILISATION = 0.34
"""Share of the bf16 peak that DeepSeek-V3's pretraining reached, with its matrices in FP8: 6 x 36.6 B x 14.8 T
operations in 2.664 M hours of an H800 (arXiv 2412.19437, table 1); 0.41 with attention and all predictions counted."""
RESERVED = 0.1
"""Share of a device's memory left to the allocator, the kernels' workspaces and the communication library."""
MOST_ROWS = 64
IN_NODE, BETWEEN_NODES = 450e9, 50e9
"""Bytes per second of a device's links: NVLink within a node, 400 Gbit/s between nodes."""


@dataclass(frozen=True)
class Device:
    """A kind of accelerator, by its data sheet."""

    memory: float
    """bytes"""
    peak: float
    """dense bf16 operations per second"""


DEVICES = {
    "a100": Device(80e9, 312e12),
    "h100": Device(80e9, 989e12),
    "h800": Device(80e9, 989e12),
    "h200": Device(141e9, 989e12),
    "b200": Device(180e9, 2250e12),
}


@dataclass(frozen=True)
class Cluster:
    """Devices of one kind, in nodes."""

    devices: int
    device: Device
    per_node: int = 8
    utilisation: float = UTILISATION
    price: float = 0.0
    """of one device for one hour"""


@dataclass(frozen=True)
class Suggestion:
    """A layout that fits, and what it takes."""

    layout: Layout
    memory: Memory
    sent: float
    """Bytes that a device sends per step."""
    step_seconds: float


@dataclass(frozen=True)
class ScalingAdvice:
    """What the scaling laws of DeepSeek-LLM (arXiv 2401.02954, Eq 1 and 4) say about a compute budget.

    They were fitted to dense models; for a mixture of experts they count what a token meets.
    """

    budget: float
    """C = M D, operations"""
    learning_rate: float
    batch_tokens: float
    flops_per_token: float
    """M of the compute-optimal model"""
    tokens: float
    """D of the compute-optimal model"""


def scaling_advice(budget: float) -> ScalingAdvice:
    """Rate, batch, model and data for a budget of `budget` operations."""
    return ScalingAdvice(
        budget=budget,
        learning_rate=0.3118 * budget**-0.1250,
        batch_tokens=0.2920 * budget**0.3271,
        flops_per_token=0.1715 * budget**0.5243,
        tokens=5.8316 * budget**0.4757,
    )


def training_days(config: ModelConfig, length: int, tokens: float, cluster: Cluster, *, recompute: bool) -> float:
    """Days that `tokens` take at the cluster's utilisation."""
    operations = flops_per_token(config, length) * tokens * (4 / 3 if recompute else 1)
    return operations / (cluster.devices * cluster.device.peak * cluster.utilisation) / 86_400


def suggest(config: ModelConfig, length: int, batch_size: int, cluster: Cluster) -> list[Suggestion]:
    """Layouts that fit, best first; empty when none does. `batch_size` is in sequences, over all devices."""
    room = cluster.device.memory * (1 - RESERVED)
    found: list[Suggestion] = []
    for layout in _layouts(config, batch_size, cluster.devices):
        memory = training_memory(config, length, layout)
        if memory.peak > room:
            continue
        sent, seconds = _communication(config, length, layout, cluster)
        step = training_days(config, length, batch_size * length, cluster, recompute=layout.recompute) * 86_400
        found.append(Suggestion(layout, memory, sent, step + seconds))
    # fewer, larger micro-batches break a tie; so does the smaller demand
    return sorted(found, key=lambda each: (each.step_seconds, each.layout.accumulation, each.memory.peak))


def _layouts(config: ModelConfig, batch_size: int, devices: int) -> Iterator[Layout]:
    widths = [1]
    if config.moe_layers:
        shared = math.gcd(devices, config.n_routed_experts)
        widths = [width for width in range(1, shared + 1) if shared % width == 0]
    if batch_size % devices:
        return
    local = batch_size // devices
    sizes = [rows for rows in range(1, min(local, MOST_ROWS) + 1) if local % rows == 0]
    stages = range(4) if devices > 1 else range(1)
    for width, zero, rows, recompute in product(widths, stages, sizes, (False, True)):
        yield Layout(devices, width, zero, rows, local // rows, recompute, gpu=True)


def _communication(config: ModelConfig, length: int, layout: Layout, cluster: Cluster) -> tuple[float, float]:
    """Bytes that a device sends per step, and the seconds they take where nothing hides them."""
    experts = expert_parameters(config)
    dense = count_parameters(config, prediction=True) - experts
    local = experts / layout.expert_parallel
    copies = layout.devices // layout.expert_parallel
    # A ring all-reduce sends everything twice; with the weights shared out they are gathered for both passes of every
    # micro-batch. 2 bytes each.
    passes = 2 + (2 * layout.accumulation if layout.zero == 3 else 0)
    reduced = passes * 2 * (dense * (1 - 1 / layout.devices) + local * (1 - 1 / copies))
    moe_layers = len(config.moe_layers) + config.num_nextn_predict_layers
    tokens = layout.rows * layout.accumulation * length
    away = 1 - 1 / layout.expert_parallel
    # to the experts and back, in both passes
    exchanged = 4 * 2 * tokens * config.num_experts_per_tok * config.hidden_size * moe_layers * away
    exchanged *= 1.5 if layout.recompute else 1
    fast, slow = IN_NODE, IN_NODE if layout.devices <= cluster.per_node else BETWEEN_NODES
    link = fast if layout.expert_parallel <= cluster.per_node else BETWEEN_NODES
    return reduced + exchanged, reduced / slow + exchanged / link
