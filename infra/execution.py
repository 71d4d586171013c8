"""Where a stage runs, and its parallelism. No part of an artifact's identity: the bytes must not depend on it.

The flow writes an `Execution` into the environment of the stage's process; the stage reads it with `execution()`.
"""

from __future__ import annotations

import os
from enum import StrEnum

from pydantic import Field, field_validator, model_validator

from infra.section import Section

__all__ = [
    "ENVIRONMENT_KEY",
    "Attention",
    "Checkpoints",
    "Engine",
    "Execution",
    "Executor",
    "KubernetesJob",
    "Launcher",
    "Layout",
    "Precision",
    "RayOptions",
    "SlurmOptions",
    "execution",
]

ENVIRONMENT_KEY = "DEEPMILL_EXECUTION"


class Engine(StrEnum):
    """What drives the training loop."""

    AUTO = "auto"
    """DeepSpeed when more than one rank is asked for, else a plain single process."""
    DEEPSPEED = "deepspeed"
    SINGLE = "single"


class Executor(StrEnum):
    """What runs the tasks of a data stage: datatrove's executors."""

    LOCAL = "local"
    """Processes on this machine."""
    RAY = "ray"
    """A Ray cluster, or a Ray of the stage's own on this machine."""
    SLURM = "slurm"
    """A job array; the store or `DEEPMILL_SCRATCH` must lie on a file system that the nodes share."""


class SlurmOptions(Section):
    """How jobs are submitted."""

    partition: str = ""
    """Empty: the cluster's default."""
    account: str = ""
    """Empty: the user's default."""
    qos: str = ""
    """Empty: the account's default."""
    time_limit: str = "1-00:00:00"
    """Of a job; tasks that it cuts off run again with the same command."""
    arguments: dict[str, str] = Field(default_factory=dict)
    """Further options of sbatch by their long names: ``{constraint: cpu, nice: "100"}``."""
    tasks_per_job: int = Field(1, ge=1)
    """Tasks of a data stage that one job of the array runs in turn; raise it where tasks take seconds."""


class RayOptions(Section):
    """Which Ray runs the tasks."""

    address: str = ""
    """``host:port`` or ``auto`` of a cluster that shares the file system; empty: one on this machine, for the stage."""


class Launcher(StrEnum):
    """What starts the ranks of a training stage."""

    LOCAL = "local"
    """Processes on this machine."""
    SLURM = "slurm"
    """One `srun` over `nodes` nodes, which see the same file system."""
    KUBERNETES = "kubernetes"
    """A JobSet of `nodes` pods that mount the store's volume, applied with kubectl."""


class Precision(StrEnum):
    """Of matrix products in training; weights, gradients and optimizer are fp32."""

    AUTO = "auto"
    """bf16 on a GPU that has it, fp32 on a CPU."""
    BF16 = "bf16"
    FP32 = "fp32"


class Attention(StrEnum):
    """What computes attention over packed documents in training on a GPU. Each gives the same bits every time, and
    other bits than the others."""

    TORCH = "torch"
    """The FlashAttention 2 that comes with torch."""
    AUTO = "auto"
    """FlashAttention 3 on a Hopper GPU where the package flash-attn-3 is installed and has a kernel for the model,
    torch's elsewhere."""
    FLASH2 = "flash2"
    """The package flash-attn, version 2; refused where it cannot be taken."""
    FLASH3 = "flash3"
    """The package flash-attn-3, for Hopper GPUs; refused where it cannot be taken."""


class Checkpoints(Section):
    """Checkpoints that a killed training goes on from."""

    seconds: float = Field(300.0, ge=0)
    """Seconds between them (DeepSeek-LLM: 5 minutes); 0 for one at every step. SIGTERM writes one besides."""
    keep: int = Field(2, ge=1)
    """How many are kept; a damaged one is passed over for the one before it."""
    asynchronous: bool = False
    """Copy to memory and write while training goes on; costs memory for one copy of each rank's state."""


class KubernetesJob(Section):
    """What the pods of a JobSet are made of."""

    image: str = "deepmill:latest"
    """Image with Deepmill installed."""
    namespace: str = "default"
    """Namespace the JobSet goes into."""
    volume: str = "deepmill"
    """Claim of a ReadWriteMany volume that holds the store."""
    mount: str = "/deepmill"
    """Where the volume is mounted; the store must lie below it, here and in the pods."""
    gpus: int = Field(0, ge=0)
    """GPUs per pod (`nvidia.com/gpu`)."""
    cpu: str = ""
    """CPUs per pod, as Kubernetes writes them; unlimited when empty."""
    memory: str = ""
    """Memory per pod, as Kubernetes writes it; unlimited when empty."""


class Execution(Section):
    """How wide the stages run."""

    executor: Executor = Executor.LOCAL
    """What runs the tasks of data stages."""
    workers: int = Field(0, ge=0)
    """Tasks of a data stage at once; 0 means one per core here, and no limit on a cluster."""
    task_memory_gb: float = Field(2.0, gt=0)
    """Memory that a cluster sets aside for a task of a data stage, in GiB."""
    slurm: SlurmOptions = SlurmOptions()
    """With `executor: slurm`, and with `launcher: slurm`."""
    ray: RayOptions = RayOptions()
    """With `executor: ray`."""
    ranks: int = Field(1, ge=1)
    """Training processes, over all nodes."""
    expert_parallel: int = Field(1, ge=1)
    """How many ranks share one copy of the experts; divides `ranks`."""
    engine: Engine = Engine.AUTO
    time_limit_minutes: float = Field(0, ge=0)
    """A stage that takes longer is stopped, and goes on from there when run again; 0 means no limit."""
    stuck_minutes: float = Field(30, gt=0)
    """A stage that reports no progress for so long is called stuck, and people are told."""
    stop_stuck: bool = False
    """Stop a stuck stage, rather than only tell."""
    zero: int | None = Field(None, ge=0, le=3)
    """ZeRO stage: what ranks share out besides the data (1: optimizer, 2: gradients, 3: weights). Empty: 1 for AdamW,
    0 for Muon, whose matrices stay whole: under 1 each rank has the state of some, 2 and 3 are refused."""
    offload: bool = False
    """Keep the optimizer's state in the CPU's memory (ZeRO 1 to 3)."""
    recompute: bool = False
    """Activation checkpointing: keep one activation per layer and compute the rest again, a third more work."""
    compile: bool = False
    """Compile attention, and on a GPU what lies between the experts' products, with torch.compile: up to minutes at the
    start, and a C++ compiler on a CPU."""
    precision: Precision = Precision.AUTO
    """Of matrix products in training."""
    attention: Attention = Attention.TORCH
    """What computes attention over packed documents in training on a GPU."""
    checkpoints: Checkpoints = Checkpoints()
    """Checkpoints that a killed training goes on from."""
    profile: tuple[int, ...] = Field(default=(), max_length=2)
    """First and last step of a training to be traced by torch's profiler, such as ``[10, 13]``; the trace lies with the
    stage's log. None when empty."""
    launcher: Launcher = Launcher.LOCAL
    """What starts the ranks."""
    nodes: int = Field(1, ge=1)
    """Machines for the ranks of a training stage; divides `ranks`."""
    restarts: int = Field(3, ge=0)
    """How often a training whose rank or node was killed starts again from its last checkpoint."""
    kubernetes: KubernetesJob = KubernetesJob()
    """With `launcher: kubernetes`."""
    timeout_seconds: float = Field(600.0, gt=0)
    """How long ranks wait for each other before they report the network as lost."""

    @field_validator("profile")
    @classmethod
    def _first_and_last(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if steps and not (len(steps) == 2 and 1 <= steps[0] <= steps[1]):
            raise ValueError("name the first and the last step, counted from 1, such as [10, 13]")
        return steps

    @model_validator(mode="after")
    def _sixteen_bits(self) -> Execution:
        """What a training stage would refuse after all the corpus was made."""
        if self.attention in (Attention.FLASH2, Attention.FLASH3) and self.precision is Precision.FP32:
            raise ValueError(f"attention {self.attention} computes in 16 bits, and precision is fp32: leave one out")
        return self

    @property
    def processes(self) -> int:
        """Data-stage processes, with 0 resolved to the cores this process may use."""
        return self.workers or len(os.sched_getaffinity(0))


class Layout(Execution):
    """How wide the stages run, and which of them run otherwise."""

    stages: dict[str, Execution] = Field(default_factory=dict)
    """Stage to the layout of its own: ``{sft: {ranks: 1}}``; what it does not name has the default."""
    keep_parts: bool = False
    """Keep what single tasks of the data stages make, and take it in later runs: a corpus that grows by a file is made
    again but for that file, to the same bytes. Costs disk for signatures and tokens (docs/growing.md)."""
    pools: dict[str, str] = Field(default_factory=dict)
    """Flow to the work pool whose workers run it: ``{corpus: cpu, pretrain: gpu}``; others stay where the run began."""

    def of(self, stage: str) -> Execution:
        """The layout of one stage."""
        shared = Execution.model_validate({name: getattr(self, name) for name in Execution.model_fields})
        return self.stages.get(stage, shared)


def execution() -> Execution:
    """The `Execution` of the running stage; the defaults outside of one."""
    text = os.environ.get(ENVIRONMENT_KEY)
    return Execution.model_validate_json(text) if text else Execution()
