"""The command line. Each group of commands is a file in `flows.commands`; importing it adds them to the app.

Heavy imports wait until a command needs them, so that `plan` answers at once and a run in which everything is cached
ends within seconds: it starts neither Prefect nor a stage.
"""

from __future__ import annotations

import inspect
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperCommand
from typer.exceptions import TyperException

from flows.commands import (
    compare,
    corpus,
    disclose,
    export,
    models,
    recipes,
    rejects,
    remove,
    runs,
    serve,
    servers,
    study,
    trace,
    upkeep,
)
from flows.commands.app import app
from flows.commands.stop import Stop
from flows.commands.usage import usage_message
from infra.disk import disk_problem
from infra.errors import DeepmillError, first_line, is_of_object_store
from infra.extras import missing_module_message
from infra.settings import quiet_network
from infra.threads import patience

__all__ = ["app", "main"]

COMMANDS = {
    "Runs": (runs, recipes, corpus, rejects, trace, study),
    "Models": (models, serve, export, compare, disclose, remove),
    "Servers and upkeep": (servers, upkeep),
}
"""The groups of commands, by their heading in the help."""
EXAMPLES = {
    "plan": ("deepmill plan sample --set grpo.steps=80", "deepmill plan deepseek-moe-16b --cluster 64xh100 --price 2"),
    "run": ("deepmill run sample", "deepmill run my-text.yaml --set pretrain.steps=2000"),
    "rerun": ("deepmill rerun 20261128 --stage tokenizer",),
    "report": ("deepmill report", "deepmill report 20261128 --to report.html"),
    "explain": ("deepmill explain grpo", "deepmill explain grpo.kl_weight"),
    "schema": ("deepmill schema --to recipe.schema.json",),
    "new": ("deepmill new my-text",),
    "duplicates": ("deepmill duplicates --limit 5",),
    "rejects": ("deepmill rejects", "deepmill rejects --rule language --source web"),
    "trace": (
        "deepmill trace deepmill-sample@champion --step 10",
        "deepmill trace --text 'In the beginning God created'",
    ),
    "study": ("deepmill study ladder --plan", "deepmill study papers"),
    "promote": ("deepmill promote deepmill-sample 2",),
    "rollback": ("deepmill rollback deepmill-sample",),
    "chat": ("deepmill chat deepmill-sample@champion", "deepmill chat deepmill-sample/2 -q 'Calculate 4 + 8 + 4.'"),
    "serve": ("deepmill serve deepmill-sample@champion", "deepmill serve ./my-model --port 0"),
    "export": ("deepmill export --browser --open deepmill-sample@champion site",),
    "compare": ("deepmill compare deepmill-sample@champion deepmill-sample/3",),
    "disclose": ("deepmill disclose deepmill-sample@champion --to pages",),
    "remove": ("deepmill remove --url 'https://example.org/blog/*' --reason 'asked by mail'", "deepmill remove --list"),
    "logs": ("deepmill logs mlflow --lines 100",),
    "deploy": ("deepmill deploy my-text.yaml --cron '0 2 * * *'",),
    "doctor": ("deepmill doctor", "deepmill doctor --device deepmill-sample@champion --memory 64MB"),
    "diff": ("deepmill diff", "deepmill diff 20261127 20261128"),
    "gc": ("deepmill gc --keep-runs 5",),
}
"""What is typed, shown below a command's help."""


INTERRUPTED = 128 + signal.SIGINT


class _Command(TyperCommand):
    """Its help shows a flag by its name alone: with Typer's ``<bool>`` behind it people would type a value."""

    def get_params(self, ctx: Any) -> list[Any]:
        found: list[Any] = super().get_params(ctx)
        for parameter in found:
            if getattr(parameter, "is_flag", False) and parameter.metavar is None:
                parameter.metavar = ""
        return found


def _arrange() -> None:
    """Put every command under its heading, in the order of `COMMANDS`; a group that is not named there is an error."""
    headings = {module.__name__: heading for heading, modules in COMMANDS.items() for module in modules}
    places = {name: place for place, name in enumerate(headings)}
    for command in app.registered_commands:
        assert command.callback is not None
        command.cls = _Command
        command.rich_help_panel = headings[command.callback.__module__]
        # Typer keeps the line ends of a docstring, and joins those of an epilog.
        command.help = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(command.callback) or "")
        shown = EXAMPLES.get(command.name or command.callback.__name__, ())
        command.epilog = "\n\n".join(f"$ {escape(line)}" for line in shown)
    app.registered_commands.sort(
        key=lambda command: places[command.callback.__module__] if command.callback else len(places)
    )


_arrange()


def main() -> None:
    """Entry point: an error that the user can mend is one line, and so is Ctrl-C; a bug shows its traceback."""
    quiet_network()
    os.environ.update(patience(os.environ))
    stop = Stop()
    try:
        # Typer returns the code of a typer.Exit, and raises none; that of a KeyboardInterrupt too.
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
    except DeepmillError as error:
        _complain(str(error))
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        Console(stderr=True, highlight=False, soft_wrap=True).print(stop.told(_command()))
        sys.exit(stop.status)
    except TyperException as error:
        _complain(usage_message(error))
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if not (message := missing_module_message(error.name or "")):
            raise
        _complain(message)
        sys.exit(1)
    except Exception as error:
        if isinstance(error, OSError) and _is_named(error.filename):
            _complain(_told(error))
            sys.exit(1)
        if problem := disk_problem(error, os.environ.get("DEEPMILL_ROOT", "store")):
            _complain(problem)
            sys.exit(1)
        if is_of_object_store(error):
            _complain(f"the object store does not answer ({first_line(error)}); check the address and AWS_*")
            sys.exit(1)
        if str(error).startswith("Failed to reach API at"):  # Prefect's, where it is told of a server
            _complain(f"{first_line(error)}; check PREFECT_API_URL, or unset it: a run then brings a server of its own")
            sys.exit(1)
        if not type(error).__module__.startswith("mlflow."):
            raise
        # the registry's or tracking server's, no bug
        _complain(
            f"MLflow does not answer as it should ({first_line(error)}); nothing was changed: run the command again"
        )
        sys.exit(1)
    if code:
        sys.exit(code)


def _command() -> str:
    """The command that was given, for no option comes before it."""
    return next(iter(sys.argv[1:]), "")


def _is_named(file: object) -> bool:
    """Whether the command line names the file, or by a path something beside or below it."""
    given = [Path(value) for argument in sys.argv[1:] for value in (argument, argument.partition("=")[2]) if value]
    if not isinstance(file, str):
        return False
    where, folders = Path(file), [path for path in given if len(path.parts) > 1]
    return where in given or any(where in path.parents or where.parent == path.parent for path in folders)


def _told(error: OSError) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError) and not Path(error.filename).is_dir():
        return f"{error.filename}: a file, where a folder should be; name another path"
    return f"{error.filename}: {error.strerror}; check the path, and who may write there"


def _complain(text: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error[/] {escape(text)}")


if __name__ == "__main__":
    main()
