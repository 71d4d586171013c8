"""What MLflow needs to log the model so that it loads anywhere: signature, example, code and requirements.

Our own packages that the model needs are copied beside it, so it loads where Deepmill is not installed.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.hashing import file_digest

if TYPE_CHECKING:
    from mlflow.models.model import ModelInfo

__all__ = ["PARAMETERS", "log_pyfunc", "pyfunc_spec"]

ROOT = Path(__file__).parents[2]
PYFUNC = Path(__file__).with_name("pyfunc.py")
CHECKSUMS = "deepmill_checksums"
"""As `model.release.pyfunc` calls it, which imports MLflow."""
CODE = ("infra", "pipeline", "model")
REQUIREMENTS = ("torch", "tokenizers", "jinja2", "safetensors", "numpy", "pandas", "pydantic", "mlflow")
"""Packages that loading and predicting import."""
EXAMPLE = {"question": ["Calculate 4 + 8 + 4."]}
PARAMETERS: tuple[tuple[str, str, int | float], ...] = (
    ("max_new_tokens", "long", 256),
    ("temperature", "double", 0.0),
    ("seed", "long", -1),
)
"""Name, MLflow type and default of what a caller may pass as `params`. Temperature 0 takes the likeliest token, seed -1
a new one for each call."""


class _Unasked:
    """MLflow's pyfunc flavor, whose model is not loaded and asked for its example while it is logged.

    That takes the memory of the whole model and the import of torch in the process of the flow, says no more than a
    warning, and leaves what Python compiles among the files of the version.
    """

    @staticmethod
    def save_model(*, validate_serving_input: bool, **settings: Any) -> None:
        """What `mlflow.models.Model.log` calls; the name of the first is MLflow's."""
        import mlflow

        mlflow.pyfunc.save_model(**settings)


def log_pyfunc(name: str, folder: Path, *beside: Path, model_id: str | None = None) -> ModelInfo:
    """`mlflow.pyfunc.log_model` for the served `folder` of an export artifact; folders `beside` it are kept with the
    model, by their names, and nothing loads them."""
    from mlflow.models import Model

    return Model.log(
        artifact_path=None,
        name=name,
        flavor=_Unasked,
        flavor_name="pyfunc",
        model_id=model_id,
        validate_serving_input=False,
        **pyfunc_spec(folder, *beside),
    )


def pyfunc_spec(folder: Path, *beside: Path) -> dict[str, Any]:
    """Arguments of ``mlflow.pyfunc.save_model``, but for the path, for the served `folder` of an export artifact, with
    folders `beside` it."""
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    signature = ModelSignature(
        inputs=Schema([ColSpec("string", name, required=False) for name in ("question", "messages", "prompt")]),
        outputs=Schema([ColSpec("string", name) for name in ("reasoning", "answer", "text")]),
        params=ParamSchema([ParamSpec(name, kind, default) for name, kind, default in PARAMETERS]),
    )
    return {
        "python_model": str(PYFUNC),
        "model_config": {CHECKSUMS: _checksums(folder, *beside)},
        "artifacts": {"model": str(folder.resolve())} | {each.name: str(each.resolve()) for each in beside},
        "code_paths": [str(ROOT / package) for package in CODE],
        "signature": signature,
        "input_example": pd.DataFrame(EXAMPLE),
        "pip_requirements": [f"{package}=={version(package).split('+')[0]}" for package in REQUIREMENTS],
    }


def _checksums(*folders: Path) -> dict[str, str]:
    """SHA-256 of every file, by its path in the logged model: of the folders, the code, the pyfunc itself."""
    files = {
        f"artifacts/{each.name}/{path.relative_to(each).as_posix()}": path for each in folders for path in _files(each)
    }
    for package in CODE:
        files |= {f"code/{path.relative_to(ROOT).as_posix()}": path for path in _files(ROOT / package)}
    files[PYFUNC.name] = PYFUNC
    return {name: file_digest(path) for name, path in sorted(files.items())}


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
