"""A data stage that can be held: tasks 2 and 3 wait as long as there is a file `hold`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from infra.section import Section
from pipeline.tasks.documents import Document, DocumentReader, DocumentWriter, run_pipeline

TASKS = 4


class SlowConfig(Section):
    artifact: str
    folder: str


class Slow(PipelineStep):
    """Appends `<process>:<task>` to the file `tasks`, and passes documents on."""

    type = "FILTER"
    name = "slow"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        with (self.folder / "tasks").open("a") as log:
            log.write(f"{os.getpid()}:{rank}\n")
        for document in data:
            while rank >= 2 and (self.folder / "hold").exists():
                time.sleep(0.05)
            yield document


def slow(config: SlowConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Copy the documents of `config.artifact`."""
    steps = [DocumentReader(Path(config.artifact)), Slow(Path(config.folder)), DocumentWriter(out_dir)]
    run_pipeline(steps, TASKS, out_dir / ".work", "slow")
    return {}
