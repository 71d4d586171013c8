"""How a training stage runs its ranks: in this process when one is enough, else in processes of their own.

A stage names a function that does one rank's part, ``(job) -> metrics or None``; everything that such functions would
all begin and end with is here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from infra.errors import UserError
from infra.execution import Engine, Launcher, execution
from infra.facts import Facts, StageMetrics
from infra.json_objects import JsonObject, read_object
from infra.launch import run_job
from infra.section import Section

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.architecture.transformer import Transformer

__all__ = ["RankJob", "leave", "run_alone", "run_ranks", "run_target", "user_errors"]

Config = TypeVar("Config", bound=Section)
Metrics = TypeVar("Metrics", bound=StageMetrics)


@dataclass(frozen=True)
class RankJob(Generic[Config]):
    """What one rank is to do."""

    config: Config
    inputs: dict[str, Path]
    out_dir: Path
    rank: int = 0
    world: int = 1

    @property
    def snapshots(self) -> Path:
        """Folder of what the stage resumes from."""
        return self.out_dir / ".work" / "snapshots"

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """That of the input `tokenizer`."""
        from pipeline.tokens.chat import read_tokenizer

        return read_tokenizer(self.inputs["tokenizer"])

    @property
    def start(self) -> Path:
        """The checkpoint of the input `start`."""
        return self.inputs["start"] / "model"

    def starting_model(self, *, prediction: bool = False) -> Transformer:
        """The model of the input `start`, with its layers of multi-token prediction where they are to be trained.

        Raises:
            UserError: it does not know all tokens of the tokenizer.
        """
        from model.architecture.checkpoint import load_model

        model = load_model(self.start, prediction=prediction)
        if self.tokenizer.get_vocab_size() > model.config.vocab_size:
            raise UserError(f"{self.inputs['start']}: its vocabulary is smaller than the tokenizer's; train it again")
        return model


METRICS = "metrics.json"
"""In ``.work``: what rank 0 reports to the process that waits for it."""


class RankCall(Facts):
    """What every rank is told. Names, never functions: ranks of their own must be able to import them."""

    target: str
    """``package.module:function``, which gets a `RankJob`"""
    section: str
    """``package.module:class`` of the configuration"""
    config: JsonObject
    inputs: dict[str, str]
    out_dir: str


RankFunction = Callable[[RankJob[Any]], StageMetrics | None]


def run_ranks(target: str, kind: type[Metrics], config: Section, inputs: Mapping[str, Path], out_dir: Path) -> Metrics:
    """Call ``target`` ("package.module:function") on every rank of the execution and wait for all.

    The function gets a `RankJob` and gives the metrics of the stage, of that kind, or None on ranks other than the
    first.

    Raises:
        UserError: the execution contradicts itself, or what a rank raised.
    """
    wide = execution()
    if wide.engine is Engine.SINGLE and wide.ranks > 1:
        raise UserError("engine: single runs one rank; set ranks to 1, or engine to auto")
    call = _call(target, config, inputs, out_dir)
    if wide.ranks > 1 or wide.engine is Engine.DEEPSPEED or wide.launcher is not Launcher.LOCAL:
        run_job("model.training.ranks:run_target", call.model_dump(), wide, _work(out_dir))
    else:
        _run_rank(call)
    return kind.model_validate(read_object(_work(out_dir) / METRICS))


def run_alone(target: str, kind: type[Metrics], config: Section, inputs: Mapping[str, Path], out_dir: Path) -> Metrics:
    """`run_ranks` for a stage that has one rank only: in this process, whatever the execution says of others."""
    _run_rank(_call(target, config, inputs, out_dir))
    return kind.model_validate(read_object(_work(out_dir) / METRICS))


def _work(out_dir: Path) -> Path:
    work = Path(out_dir).resolve() / ".work"
    work.mkdir(parents=True, exist_ok=True)
    return work


def _call(target: str, config: Section, inputs: Mapping[str, Path], out_dir: Path) -> RankCall:
    kind = type(config)
    return RankCall(
        target=target,
        section=f"{kind.__module__}:{kind.__qualname__}",
        config=config.model_dump(mode="json"),
        inputs={name: str(Path(path).resolve()) for name, path in inputs.items()},
        out_dir=str(_work(out_dir).parent),
    )


def run_target(call: Mapping[str, Any]) -> None:
    """What the process of a rank does with the `RankCall` that it is started with."""
    _run_rank(RankCall.model_validate(call))


def _run_rank(call: RankCall) -> None:
    """Take this rank's share of the cores, call the target, keep its metrics, and leave in order."""
    import torch

    from model.architecture.checkpoint import write_json
    from model.architecture.devices import own_rank, world_size
    from model.training.engine import threads_for

    world = world_size()
    torch.set_num_threads(threads_for(world))
    out_dir = Path(call.out_dir)
    job = RankJob(
        config=_named(call.section).model_validate(call.config),
        inputs={name: Path(path) for name, path in call.inputs.items()},
        out_dir=out_dir,
        rank=own_rank(),
        world=world,
    )
    function: RankFunction = _named(call.target)
    metrics = function(job)
    if metrics is not None and job.rank == 0:
        write_json(_work(out_dir) / METRICS, metrics.written())
    leave()


def _named(name: str) -> Any:
    """What ``package.module:attribute`` names."""
    module, attribute = name.split(":")
    return getattr(importlib.import_module(module), attribute)


@contextmanager
def user_errors(stage: str) -> Iterator[None]:
    """What is wrong with a value, told as a mistake of the user in that stage's section.

    Raises:
        UserError: in place of a ValueError.
    """
    try:
        yield
    except ValueError as error:
        raise UserError(f"{stage}: {error}") from error


def leave() -> None:
    """Wait for the other ranks and part from them: a process that just ends may abort in the threads of its network."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
