"""The command line. Each group of commands is a file in `flows.commands`; importing it adds them to the app.

Heavy imports wait until a command needs them, so that `plan` answers at once and a run in which everything is cached
ends within seconds: it starts neither Prefect nor a stage.
"""

from __future__ import annotations

import sys
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape
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
from flows.commands.usage import usage_message
from infra.errors import DeepmillError, first_line, is_of_object_store
from infra.extras import missing_module_message
from infra.settings import quiet_network

__all__ = ["app", "main"]

COMMANDS = {
    "Runs": (runs, recipes, corpus, rejects, trace, study),
    "Models": (models, serve, export, compare, disclose, remove),
    "Servers and upkeep": (servers, upkeep),
}
"""The groups of commands, by their heading in the help."""


def _arrange() -> None:
    """Put every command under its heading, in the order of `COMMANDS`; a group that is not named there is an error."""
    headings = {module.__name__: heading for heading, modules in COMMANDS.items() for module in modules}
    places = {name: place for place, name in enumerate(headings)}
    for command in app.registered_commands:
        assert command.callback is not None
        command.rich_help_panel = headings[command.callback.__module__]
    app.registered_commands.sort(
        key=lambda command: places[command.callback.__module__] if command.callback else len(places)
    )


_arrange()


def main() -> None:
    """Entry point: an error that the user can mend is one line, Ctrl-C leaves quietly, a bug shows its traceback."""
    quiet_network()
    try:
        # Typer returns the code of a typer.Exit, and raises none.
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except DeepmillError as error:
        _complain(str(error))
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        Console(stderr=True).print("stopped; the same command resumes")
        sys.exit(130)
    except TyperException as error:
        _complain(usage_message(error))
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if not (message := missing_module_message(error.name or "")):
            raise
        _complain(message)
        sys.exit(1)
    except OSError as error:
        if not _is_named(error.filename):
            raise
        _complain(f"{error.filename}: {error.strerror}; check the path, and who may write there")
        sys.exit(1)
    except Exception as error:
        if is_of_object_store(error):
            _complain(f"the object store does not answer ({first_line(error)}); check the address and AWS_*")
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


def _is_named(file: object) -> bool:
    """Whether the command line names the file, or by a path something beside or below it."""
    given = [Path(value) for argument in sys.argv[1:] for value in (argument, argument.partition("=")[2]) if value]
    if not isinstance(file, str):
        return False
    where, folders = Path(file), [path for path in given if len(path.parts) > 1]
    return where in given or any(where in path.parents or where.parent == path.parent for path in folders)


def _complain(text: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error[/] {escape(text)}")


if __name__ == "__main__":
    main()
