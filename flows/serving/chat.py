"""A conversation on the terminal with a registered model, through the same MLflow interface that anyone would use."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.padding import Padding

from flows.registry.files import WEIGHTS, VersionFiles
from flows.registry.names import parse_name, resolve
from infra.errors import UserError, first_line
from infra.settings import Settings
from infra.tracking import registry_client
from infra.units import printable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Answering", "converse", "load_version"]


class Answering(Protocol):
    """What answers: an MLflow pyfunc, or `_OwnCode`."""

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """A row `reasoning, answer, text` for each row of `data`."""


class _OwnCode:
    """A version whose own code was registered without checksums, run by the code of this installation instead."""

    def __init__(self, folder: Path) -> None:
        from model.release.pyfunc import ReasoningModel

        self._model = ReasoningModel()
        self._context = SimpleNamespace(artifacts={"model": str(folder / WEIGHTS)}, model_config={})
        self._model.load_context(self._context)

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """See `Answering`."""
        return self._model.predict(self._context, data, params)


def load_version(settings: Settings, model: str) -> tuple[Answering, str]:
    """What answers for ``MODEL@ALIAS`` or ``MODEL/VERSION``, and the version. Every file was compared before.

    Raises:
        UserError: it is not in the registry, or a file is not as registered.
        MlflowException: the registry does not answer.
    """
    client = registry_client(settings)
    import mlflow
    from mlflow.exceptions import MlflowException

    name = parse_name(model)
    version = resolve(client, name)
    scratch = _scratch(settings.local_root / ".chat")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)  # the code of a pyfunc may be read as late as that
    folder, recorded = VersionFiles(client, settings, name.model, version).fetch(Path(scratch) / "files")
    if recorded is None or not recorded.whole:
        return _OwnCode(folder), version
    try:
        return mlflow.pyfunc.load_model(str(folder)), version
    except MlflowException as error:
        raise UserError(f"{model}: cannot be loaded ({first_line(error)}); register the model again") from None


def _scratch(talks: Path) -> str:
    """A new folder on the store's disk, which has room for a model; elsewhere where the store may only be read."""
    try:
        talks.mkdir(parents=True, exist_ok=True)
        return tempfile.mkdtemp(dir=talks)
    except OSError:
        return tempfile.mkdtemp()


def converse(settings: Settings, console: Console, model: str, question: str | None, temperature: float) -> None:
    """Ask `question`, or whatever is typed until the input ends."""
    loaded, version = load_version(settings, model)
    if question is not None:
        _answer(console, loaded, question, temperature)
        return
    remembers = _takes_conversations(loaded)
    told = "It remembers the conversation" if remembers else "Each question is asked by itself"
    console.print(f"[bold]{model}[/] version {version}. {told}; an empty line leaves.")
    turns: list[dict[str, str]] = []
    while True:
        try:
            asked = console.input("[bold cyan]you[/]  ").strip()
            if not asked:
                return
            answer = _answer(console, loaded, asked, temperature, turns if remembers else ())
            turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        except (EOFError, KeyboardInterrupt):
            console.print()  # the shell's prompt begins a line
            return


def _takes_conversations(loaded: Answering) -> bool:
    """Whether the version knows the column `messages`, which those of earlier releases do not."""
    metadata = getattr(loaded, "metadata", None)  # of what MLflow loaded
    schema = metadata and metadata.get_input_schema()
    return metadata is None or (schema is not None and "messages" in schema.input_names())


def _answer(
    console: Console, loaded: Answering, question: str, temperature: float, before: Sequence[dict[str, str]] = ()
) -> str:
    import pandas as pd

    asked = {"question": [question]}
    if before:
        asked = {"messages": [json.dumps([*before, {"role": "user", "content": question}])]}
    row = loaded.predict(pd.DataFrame(asked), params={"temperature": temperature}).iloc[0]
    if row["reasoning"]:
        console.print(Padding(printable(row["reasoning"]), (0, 0, 0, 5)), style="dim italic", markup=False)
    console.print("[bold green]mill[/] ", end="")
    console.print(printable(row["answer"]) or "(no answer)", markup=False)
    return str(row["answer"])
