"""Has Python keep bytecode of what runs import, and Numba its loops: ``warm.py text|servers``.

Half of all modules are imported by no run; Python compiles those that are when they are. The two halves are for two
processors; torch is the first's, whose loops take as long as what the second has to import before it.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys
import warnings

HALVES = {
    "text": ("pipeline", "infra", "model"),
    "servers": ("prefect.server.api.server", "mlflow.server", "mlflow.server.fastapi_app", "mlflow.pyfunc", "flows"),
}
LOOPS = "pipeline.sources.html"
"""Has Numba compile the loops over pages. By its name, as all that is imported here: set-up stands below no layer."""
OURS = ("flows", "model", "pipeline", "infra")


def _import(name: str) -> None:
    """Import a module, one of ours with all below it; what is for a package that is not here is passed over."""
    with contextlib.suppress(Exception):
        module = importlib.import_module(name)
        if name.partition(".")[0] in OURS and hasattr(module, "__path__"):
            for below in pkgutil.iter_modules(module.__path__, f"{name}."):
                _import(below.name)


def main(half: str) -> None:
    """Import a half of what runs import."""
    from infra.settings import quiet_network

    quiet_network()
    warnings.simplefilter("ignore")
    if half == "text":
        importlib.import_module(LOOPS).prepare()
    for name in HALVES[half]:
        _import(name)


if __name__ == "__main__":
    main(sys.argv[1])
