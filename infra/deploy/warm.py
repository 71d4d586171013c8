"""Has Python keep bytecode of what runs import, and Numba its loops: ``warm.py loops|text|servers``.

Half of all modules are imported by no run; Python compiles those that are when they are. The parts are made at once.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys
import warnings

PARTS: dict[str, tuple[str, ...]] = {
    "loops": (),
    "text": ("pipeline", "infra", "model"),
    "servers": ("prefect.server.api.server", "mlflow.server", "mlflow.server.fastapi_app", "mlflow.pyfunc", "flows"),
}
LOOPS = "pipeline.loops"
"""Has Numba compile the loops. By its name, as all that is imported here: set-up stands below no layer."""
OURS = ("flows", "model", "pipeline", "infra")


def _import(name: str) -> None:
    """Import a module, one of ours with all below it; what is for a package that is not here is passed over."""
    with contextlib.suppress(Exception):
        module = importlib.import_module(name)
        if name.partition(".")[0] in OURS and hasattr(module, "__path__"):
            for below in pkgutil.iter_modules(module.__path__, f"{name}."):
                _import(below.name)


def main(part: str) -> None:
    """Make one part."""
    from infra.settings import quiet_network

    quiet_network()
    warnings.simplefilter("ignore")
    if part == "loops":
        importlib.import_module(LOOPS).prepare()
    for name in PARTS[part]:
        _import(name)


if __name__ == "__main__":
    main(sys.argv[1])
