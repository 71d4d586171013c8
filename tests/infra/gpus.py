"""A rank that tells which GPUs it was given; importable by ranks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def tell(argument: dict[str, Any]) -> None:
    """Write what this rank sees to ``<out>/<rank>.json``."""
    told = {
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "local_rank": os.environ["LOCAL_RANK"],
        "node": os.environ["SLURMD_NODENAME"],
    }
    (Path(argument["out"]) / f"{os.environ['RANK']}.json").write_text(json.dumps(told))
