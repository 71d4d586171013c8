"""The champion out of MLflow's registry, without a server: ``python examples/predict.py [MODEL@ALIAS] [QUESTION]``."""

from __future__ import annotations

import sys

import mlflow

TRACKING = "sqlite:///store/mlflow.db"
DEFAULTS = ("deepmill-sample@champion", "Calculate 4 + 8 + 4.")


def main(model: str, question: str) -> None:
    """Print reasoning and answer."""
    mlflow.set_tracking_uri(TRACKING)
    (row,) = mlflow.pyfunc.load_model(f"models:/{model}").predict({"question": [question]}).to_dict("records")
    print(row["reasoning"])
    print(row["answer"])


if __name__ == "__main__":
    main(*sys.argv[1:], *DEFAULTS[len(sys.argv) - 1 :])
