"""The process of one stage: ``python -m infra.worker JOB`` calls the stage's function and writes what came of it.

JOB is a JSON file ``{"entrypoint", "config", "inputs", "out_dir", "result"}``. The configuration is validated with the
class that the function's first parameter is annotated with, so nothing here knows any stage.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import sys
import traceback
import typing
import warnings
from pathlib import Path
from typing import Any

from infra import events
from infra.durable import write_durably
from infra.errors import DeepmillError, UserError
from infra.facts import StageMetrics

__all__ = ["main"]


def main(job_file: Path) -> int:
    """Run the job; the status is 0 when the result file holds metrics, 1 when it holds an error."""
    job: dict[str, Any] = json.loads(job_file.read_text())
    result = Path(job["result"])
    signal.signal(signal.SIGTERM, _leave)
    warnings.simplefilter("ignore", ResourceWarning)
    try:
        outcome: dict[str, Any] = {"metrics": _call(job)}
    except UserError as error:
        outcome = {"error": str(error), "kind": "user"}
    except OSError as error:
        traceback.print_exc()
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            outcome = {"error": _last_line(error), "kind": "crash"}
        else:
            where = error.filename or job["out_dir"]
            outcome = {"error": f"{where}: the disk is full; free space and run the same command", "kind": "user"}
    except MemoryError:
        traceback.print_exc()
        outcome = {"error": "out of memory", "kind": "crash"}
    except Exception as error:
        traceback.print_exc()
        outcome = {"error": _last_line(error), "kind": "user" if isinstance(error, DeepmillError) else "crash"}
    write_durably(result, json.dumps(outcome, allow_nan=True).encode())
    return 0 if "metrics" in outcome else 1


def _call(job: dict[str, Any]) -> dict[str, Any]:
    module, name = job["entrypoint"].split(":")
    function = getattr(importlib.import_module(module), name)
    hints = typing.get_type_hints(function)
    first = next(iter(hints))
    config = hints[first].model_validate(job["config"])
    inputs = {stage: Path(path) for stage, path in job["inputs"].items()}
    metrics = function(config, inputs, Path(job["out_dir"]))
    events.flush()
    return metrics.written() if isinstance(metrics, StageMetrics) else dict(metrics)


def _leave(signum: int, frame: Any) -> None:
    """SIGTERM where the stage has no better idea (training saves first): leave through the finally blocks."""
    raise SystemExit(128 + signum)


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1] if lines else ''}".rstrip(": ")


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(Path(sys.argv[1])))
