"""What the process of a rank does: calls ``module:function(argument)`` and leaves word of how it failed.

``python -m infra.launch.rank JOB`` reads JOB, a JSON file ``{"target", "argument", "reports"}``, and works under the
environment contract of torch (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), whoever set it: torchrun or
`infra.launch.local`. A failure becomes ``error-*.json`` in the folder `reports`. Knows neither torch nor Prefect.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import socket
import sys
import time
import traceback
from pathlib import Path

from infra.disk import disk_problem
from infra.errors import DeepmillError, UserError
from infra.launch.reports import PARENT, RankReport
from infra.supervisor import die_with_parent

_LOST = re.compile(
    r"gloo/transport|Connection (closed|reset)|NCCL|Broken pipe|[Tt]imed out|No route to host|unreachable"
)
"""What the collectives say when the other end is gone."""


def main(job_file: str) -> None:
    """Do the job of one rank."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    if parent := os.environ.get(PARENT):
        die_with_parent(int(parent))
    reports, rank = Path(job["reports"]), os.environ["RANK"]
    if any(reports.glob("user-*")):  # torchrun starts again whatever the failure was; this one would come back
        os._exit(1)
    try:
        module, function = job["target"].split(":")
        getattr(importlib.import_module(module), function)(job["argument"])
    except Exception as error:
        problem = disk_problem(error, Path.cwd())
        report = RankReport(
            rank=int(rank),
            ranks=int(os.environ["WORLD_SIZE"]),
            host=socket.gethostname(),
            attempt=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
            time=time.time(),
            is_user_error=isinstance(error, UserError) or problem is not None,
            is_lost=not isinstance(error, DeepmillError) and bool(_LOST.search(str(error))),
            message=problem or str(error),
            traceback=traceback.format_exc(),
        )
        report.write(reports)
        if report.is_user_error:
            (reports / f"user-{rank}").touch()
        sys.stderr.write(report.traceback)
        sys.stderr.flush()
        os._exit(1)  # collectives that wait for other ranks must not hold up the end


if __name__ == "__main__":
    main(sys.argv[1])
