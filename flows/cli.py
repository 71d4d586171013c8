"""The command line: plan, run, rerun, status, report, models, promote, rollback, chat.

Heavy imports wait until a command needs them, so that `plan` answers at once and a run in which everything is cached
ends within seconds: it starts neither Prefect nor a stage.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.errors import DeepmillError, UserError
from infra.settings import Settings, quiet_network

__all__ = ["app", "main"]

app = typer.Typer(
    help="Raw text in; a promoted, quantized, reasoning MoE model out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
console = Console(highlight=False)
Command = TypeVar("Command", bound=Callable[..., Any])

RecipeArgument = Annotated[str, typer.Argument(help="Name of a preset, or a YAML file.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Lay a value over the recipe: section.key=value.", metavar="KEY=VALUE")
]
RootOption = Annotated[
    str | None, typer.Option("--root", help="The artifact store: a folder or s3://bucket/prefix (DEEPMILL_ROOT).")
]
FromOption = Annotated[str | None, typer.Option("--from", help="Make this stage, and all after it, again.")]


def _settings(root: str | None = None) -> Settings:
    if root:
        os.environ["DEEPMILL_ROOT"] = root  # stages and flows read the same settings
    return Settings()


@app.command()
def plan(
    recipe: RecipeArgument = "sample", set_: SetOption = None, root: RootOption = None, from_: FromOption = None
) -> None:
    """What would run, what is there already, and why. Runs nothing."""
    from flows.plan import make_plan
    from flows.recipe import load_recipe
    from infra.store import open_store

    loaded = load_recipe(recipe, set_ or [])
    store = open_store(_settings(root))
    planned = make_plan(loaded, store, restart_from=from_)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("stage", "", "identity", "why"):
        table.add_column(column, overflow="fold")
    styles = {"run": "[yellow]run[/]", "cached": "[green]cached[/]", "pinned": "[cyan]pinned[/]"}
    for item in planned:
        state = styles.get(item.state, f"[magenta]{item.state}[/]")
        table.add_row(item.stage.name, state, f"[dim]{item.job.identity}[/]", item.why)
    console.print(table)
    waiting = [item for item in planned if item.runs]
    console.print(
        f"\n{len(waiting)} of {len(planned)} stages would run, "
        f"then {loaded.model_name} is registered and its gates decide."
        if waiting
        else f"\nEverything is there already: {store.address}"
    )


@app.command()
def run(
    recipe: RecipeArgument = "sample",
    set_: SetOption = None,
    root: RootOption = None,
    from_: FromOption = None,
) -> None:
    """Run a recipe end to end; what is there already is not made again."""
    from flows.recipe import load_recipe

    loaded = load_recipe(recipe, set_ or [])
    settings = _settings(root)
    if from_ or not _show_finished(loaded, settings, recipe):
        _run_flow(loaded, settings, from_, recipe)


def _show_finished(recipe: Any, settings: Settings, source: str) -> bool:
    """If nothing is left to do for `recipe`, show the summary of the run that did it; whether it was so."""
    from flows.plan import make_plan
    from infra.store import open_store

    store = open_store(settings)
    planned = make_plan(recipe, store)
    if any(item.runs for item in planned):
        return False
    wanted = {item.stage.name: item.job.identity for item in planned}
    for run_id in reversed(store.runs()):
        record = store.read_run(run_id) or {}
        made = {name: stage["identity"] for name, stage in record.get("stages", {}).items()}
        if record.get("state") == "completed" and made == wanted and record["release"].get("promoted"):
            break
    else:
        return False
    from flows.release import released_version
    from infra.tracking import registry_client

    client = registry_client(settings)
    name = recipe.model_name
    version = released_version(client, name, wanted["export"])
    if version is None or record["release"]["version"] != version:
        return False
    registered = client.get_registered_model(name)
    if str(registered.aliases.get(recipe.promote.alias)) != version:
        return False
    for stage in record["stages"].values():
        stage["state"], stage["seconds"] = "cached", 0.0
    console.print(f"Everything is there already, from run {run_id}.\n")
    _finish(record, store, source)
    return True


def _run_flow(recipe: Any, settings: Settings, restart_from: str | None, source: str) -> None:
    """Run the flow `mill` in this process, on the Prefect server that its settings name or one for this run alone."""
    from infra.store import open_store

    store = open_store(settings)  # an unwritable root is told before anything starts
    from flows.plan import make_plan

    left = [item for item in make_plan(recipe, store, restart_from=restart_from) if item.runs]
    console.print(f"[bold]{recipe.name}[/]  {recipe.description}")
    console.print(f"[dim]{len(left)} stages to run; artifacts go to {store.address}[/]\n")
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
    signal.signal(signal.SIGTERM, _interrupt)
    from flows.display import TerminalDisplay
    from flows.server import PrefectServer
    from flows.session import watched_by

    with PrefectServer() as server, TerminalDisplay(console) as display:
        from flows.mill import mill

        server.wait()
        with watched_by(display):
            run_id = mill(recipe, restart_from=restart_from)
    record = store.read_run(run_id)
    assert record is not None
    _finish(record, store, source)


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _finish(record: dict[str, Any], store: Any, source: str) -> None:
    """The summary, and the report if it is not there yet."""
    from flows.report import write_report
    from flows.summary import print_summary

    path = store.local / "runs" / f"{record['run_id']}.html"
    if not path.exists():
        write_report(record, store, path)
    print_summary(console, record, store, source)


@app.command()
def rerun(
    run_id: Annotated[str, typer.Argument(help="A run, or the beginning of its name.")],
    stage: Annotated[str | None, typer.Option("--stage", help="Only this stage.")] = None,
    root: RootOption = None,
) -> None:
    """Make a recorded run's artifacts again from the record and say whether the bytes agree."""
    from flows.rerun import rerun_stages
    from infra.store import open_store

    store = open_store(_settings(root))
    record = _record(store, run_id)
    agreed = True
    for result in rerun_stages(store, record, stage):
        mark = "[green]same bytes[/]" if result.same else "[red]different[/]"
        console.print(f"{result.stage:<14} {mark}  {result.seconds:6.1f} s  [dim]{result.text}[/]")
        agreed = agreed and result.same
    if not agreed:
        raise typer.Exit(1)


@app.command()
def status(root: RootOption = None, limit: Annotated[int, typer.Option(help="How many runs.")] = 15) -> None:
    """The latest runs, how they stand and what they made."""
    from flows.records import state_now
    from infra.store import open_store

    store = open_store(_settings(root))
    names = store.runs()[-limit:]
    if not names:
        console.print(f"No run in {store.address} yet: deepmill run sample")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("run", "state", "made", "cached", "model"):
        table.add_column(
            column, no_wrap=column in ("run", "state"), justify="right" if column in ("made", "cached") else "left"
        )
    for name in reversed(names):
        record = store.read_run(name) or {}
        stages, release = record["stages"], record["release"]
        made = sum(stage["state"] == "made" for stage in stages.values())
        failed = [stage for stage, entry in stages.items() if entry["state"] in ("failed", "running")]
        outcome = f"{release['model']} v{release['version']}" if release.get("version") else ""
        if release.get("promoted"):
            outcome += " [green]champion[/]"
        elif record["error"]:
            first_line = record["error"].splitlines()[0]
            outcome = f"[red]{escape(', '.join(failed) or 'error')}[/]: {escape(first_line)}"
        table.add_row(name, state_now(record), str(made), str(len(stages) - made - len(failed)), outcome)
    console.print(table)


@app.command()
def report(
    run_id: Annotated[str, typer.Argument(help="A run, or the beginning of its name; the latest when left out.")] = "",
    root: RootOption = None,
    to: Annotated[Path | None, typer.Option("--to", help="Where to write the page.")] = None,
) -> None:
    """Write one self-contained HTML page about a run."""
    from flows.report import write_report
    from infra.store import open_store

    store = open_store(_settings(root))
    record = _record(store, run_id)
    path = write_report(record, store, to or store.local / "runs" / f"{record['run_id']}.html")
    console.print(str(path), soft_wrap=True)


@app.command()
def models() -> None:
    """Registered models, their versions, aliases and numbers."""
    import json

    from flows.release import FACTS
    from infra.tracking import registry_client

    client = registry_client(_settings())
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("model", "version", "alias", "accuracy", "precision", "size"):
        table.add_column(column, justify="right" if column in ("version", "accuracy", "size") else "left")
    from flows.units import size

    for registered in client.search_registered_models():
        versions = client.search_model_versions(f"name = '{registered.name}'")
        for version in sorted(versions, key=lambda each: -int(each.version)):
            facts = json.loads(version.tags.get(FACTS, "{}"))
            aliases = [alias for alias, number in registered.aliases.items() if str(number) == str(version.version)]
            table.add_row(
                registered.name,
                str(version.version),
                ", ".join(sorted(aliases)),
                f"{facts['accuracy']:.1%}" if facts else "",
                facts.get("precision", ""),
                size(facts["bytes"]) if facts else "",
            )
    console.print(table if table.row_count else "No model is registered yet: deepmill run sample")


@app.command()
def promote(
    model: Annotated[str, typer.Argument(help="Name of a registered model.")],
    version: Annotated[str, typer.Argument(help="Its version.")],
    force: Annotated[bool, typer.Option("--force", help="Against the gates; the tags record it.")] = False,
    recipe: Annotated[str, typer.Option("--recipe", help="Whose gates.")] = "sample",
) -> None:
    """Judge a version and make it the champion if the gates pass."""
    from flows.recipe import load_recipe
    from flows.release import promote_by_hand

    config = load_recipe(recipe).promote
    for gate in promote_by_hand(_settings(), model, version, config, force=force):
        mark = "[green]✓[/]" if gate.passed else "[red]✗[/]"
        console.print(f"{mark} {gate.gate:<13} {gate.value:.4g}  [dim]{gate.text} {gate.limit:.4g}[/]")
    console.print(f"{model} version {version} is the {config.alias}")


@app.command()
def rollback(model: Annotated[str, typer.Argument(help="Name of a registered model.")]) -> None:
    """Make the version before the champion the champion again."""
    from flows.release import rollback as move_back

    console.print(f"{model} version {move_back(_settings(), model)} is the champion again")


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="MODEL@ALIAS or MODEL/VERSION.")] = "deepmill-sample@champion",
    question: Annotated[str | None, typer.Option("--question", "-q", help="Ask one question and leave.")] = None,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")] = 0.0,
) -> None:
    """Talk to a registered model; its thoughts are shown apart from the answer."""
    from flows.chat import converse

    converse(_settings(), console, model, question, temperature)


def _record(store: Any, name: str) -> dict[str, Any]:
    found = [run for run in store.runs() if run.startswith(name)]
    if not found:
        raise UserError(f"{name}: no such run in {store.address}; see deepmill status")
    record = store.read_run(found[-1])
    assert record is not None
    return dict(record)


def main() -> None:
    """Entry point: an error that the user can mend is one line, Ctrl-C leaves quietly, a bug shows its traceback."""
    quiet_network()
    try:
        app(standalone_mode=False)
    except DeepmillError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error[/] {escape(str(error))}")
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        Console(stderr=True).print("stopped; the same command goes on from where it was")
        sys.exit(130)
    except typer.Exit as leave:
        sys.exit(leave.exit_code)
    except Exception as error:
        import click

        if isinstance(error, click.ClickException):
            error.show()
            sys.exit(error.exit_code)
        raise


if __name__ == "__main__":
    main()
