"""The process of one stage: ``python -m infra.worker JOB`` calls the stage's function and writes what came of it.

JOB is a file of `infra.stage_job.StageJob`. The configuration is validated with the class that the function's first
parameter is annotated with, so nothing here knows any stage.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
import typing
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from infra import events, kept_parts
from infra.disk import disk_problem
from infra.durable import write_durably
from infra.errors import DeepmillError, UserError
from infra.json_objects import JsonObject
from infra.stage_job import Failure, Outcome, StageJob

__all__ = ["main"]


def main(job_file: Path) -> int:
    """Run the job; the status is 0 when the result file holds metrics, 1 when it holds an error."""
    os.umask(0o022)
    job = StageJob.model_validate_json(job_file.read_bytes())
    signal.signal(signal.SIGTERM, _leave)
    warnings.simplefilter("ignore", ResourceWarning)
    outcome = _outcome(job)
    write_durably(Path(job.result), outcome.written())
    return 0 if outcome.failure is None else 1


def _outcome(job: StageJob) -> Outcome:
    try:
        return Outcome(metrics=_call(job))
    except UserError as error:
        return _failed(str(error), "user")
    except MemoryError:
        traceback.print_exc()
        return _failed("out of memory", "crash")
    except Exception as error:
        traceback.print_exc()
        if problem := disk_problem(error, job.out_dir):
            return _failed(problem, "user")
        return _failed(_last_line(error), "user" if isinstance(error, DeepmillError) else "crash")


def _failed(error: str, kind: Literal["user", "crash"]) -> Outcome:
    return Outcome(failure=Failure(error=error, kind=kind))


def _call(job: StageJob) -> JsonObject:
    module, name = job.entrypoint.split(":")
    function = getattr(importlib.import_module(module), name)
    hints = typing.get_type_hints(function)
    first = next(iter(hints))
    config = hints[first].model_validate(job.config)
    inputs = {stage: Path(path) for stage, path in job.inputs.items()}
    kept_parts.use(job.parts)
    metrics = function(config, inputs, Path(job.out_dir))
    events.flush()
    return dict(metrics) if isinstance(metrics, Mapping) else metrics.written()


def _leave(signum: int, frame: Any) -> None:
    """SIGTERM where the stage has no better idea (training saves first): leave through the finally blocks."""
    raise SystemExit(128 + signum)


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1] if lines else ''}".rstrip(": ")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
