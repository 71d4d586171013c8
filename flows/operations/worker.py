"""A Prefect worker that first says what became of the runs that died with the one before it.

``python -m flows.operations.worker ARGUMENTS``: the arguments are those of ``prefect worker start``.
"""

from __future__ import annotations

import sys

from flows.operations.interrupted import reap
from infra.settings import Settings

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Reap what a killed worker left, then work until told to stop."""
    try:
        for name in reap(Settings()):
            print(f"{name}: its process was killed", flush=True)
    except Exception as error:  # the work goes on, and what is not told now the server notices in some minutes
        print(f"what was interrupted could not be told: {error}", flush=True)
    from prefect.cli import app

    sys.argv = ["prefect", "worker", "start", *arguments]
    app()


if __name__ == "__main__":
    main(sys.argv[1:])
