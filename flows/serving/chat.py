"""A conversation on the terminal with a registered model, through the same MLflow interface that anyone would use."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.padding import Padding

from flows.registry.names import parse_name, resolve
from infra.errors import UserError
from infra.settings import Settings
from infra.tracking import registry_client

__all__ = ["converse", "load_version"]


def load_version(settings: Settings, model: str) -> tuple[Any, str]:
    """The loaded pyfunc of ``MODEL@ALIAS`` or ``MODEL/VERSION``, and the version.

    Raises:
        UserError: it is not in the registry.
    """
    client = registry_client(settings)
    import mlflow
    from mlflow.exceptions import MlflowException

    name = parse_name(model)
    version = resolve(client, name)
    try:
        return mlflow.pyfunc.load_model(f"models:/{name.model}/{version}"), version
    except MlflowException as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{model}: not in the registry ({first}); see deepmill models") from None


def converse(settings: Settings, console: Console, model: str, question: str | None, temperature: float) -> None:
    """Ask `question`, or whatever is typed until the input ends."""
    loaded, version = load_version(settings, model)
    if question is not None:
        _answer(console, loaded, question, temperature)
        return
    console.print(f"[bold]{model}[/] version {version}. An empty line leaves.")
    while True:
        try:
            asked = console.input("[bold cyan]you[/]  ").strip()
        except EOFError:
            asked = ""
        if not asked:
            return
        _answer(console, loaded, asked, temperature)


def _answer(console: Console, loaded: Any, question: str, temperature: float) -> None:
    import pandas as pd

    row = loaded.predict(pd.DataFrame({"question": [question]}), params={"temperature": temperature}).iloc[0]
    if row["reasoning"]:
        console.print(Padding(str(row["reasoning"]), (0, 0, 0, 5)), style="dim italic", markup=False)
    console.print("[bold green]mill[/] ", end="")
    console.print(str(row["answer"]), markup=False)
