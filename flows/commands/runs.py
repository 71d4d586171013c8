"""Commands about runs: plan, run, rerun, status, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from flows.commands.app import (
    FromOption,
    RecipeArgument,
    RootOption,
    RunArgument,
    SetOption,
    app,
    console,
    find_record,
    settings_for,
    table_of,
)
from flows.commands.watch import watched_flow
from flows.recipe.sample_text import check_sample_text, gather_sample_text
from flows.run.record import RunRecord, read_record, records, report_file
from infra.errors import UserError
from infra.execution import Launcher
from infra.extras import require
from infra.settings import Settings
from infra.units import duration, plural, printable
from model.architecture.varlen import refused

if TYPE_CHECKING:
    from flows.recipe.plan import Plan
    from infra.store import Store


@app.command()
def plan(
    recipe: RecipeArgument = "sample",
    set_: SetOption = None,
    root: RootOption = None,
    from_: FromOption = None,
    cluster: Annotated[str | None, typer.Option("--cluster", help="Where training would run, as 64xh100.")] = None,
    per_node: Annotated[int, typer.Option("--per-node", min=1, help="Devices of a node.")] = 8,
    utilisation: Annotated[
        float | None, typer.Option("--utilisation", min=0.01, max=1, help="Share of the devices' peak that is reached.")
    ] = None,
    price: Annotated[float, typer.Option("--price", min=0, help="Of one device for one hour.")] = 0.0,
) -> None:
    """What would run, what is cached, and why; what training takes, and how to spread it. Runs nothing."""
    from flows.recipe.plan import make_plan
    from flows.recipe.recipe import load_recipe
    from flows.recipe.training_plan import cluster_of, show_training
    from infra.open_store import open_store

    loaded = load_recipe(recipe, set_ or [])
    where = cluster_of(cluster, per_node=per_node, utilisation=utilisation, price=price) if cluster else None
    store = open_store(settings_for(root))
    check_sample_text(loaded)
    planned = make_plan(loaded, store, restart_from=from_)
    table = table_of("stage", "", "identity", "why")
    styles = {"run": "[yellow]run[/]", "cached": "[green]cached[/]", "pinned": "[cyan]pinned[/]"}
    for item in planned.stages:
        state = styles.get(item.state, f"[magenta]{item.state}[/]")
        table.add_row(item.stage.name, state, f"[dim]{item.job.identity}[/]", item.why)
    console.print(table)
    _show_kept(planned, store)
    _show_repeats(planned, store)
    if loaded.has("pretrain"):
        show_training(loaded, where, console)
    waiting = planned.waiting
    then = f", then {loaded.model_name} is registered and its gates decide" if loaded.has("export") else ""
    _show_requests(planned, store)
    if not loaded.extract.sources:
        console.print("\n[yellow]extract.sources names no text yet: without a source nothing runs[/]")
    console.print(
        f"\n{len(waiting)} of {len(planned.stages)} stages would run{then}{_took(planned, store)}."
        if waiting
        else f"\nEverything is cached: {store.address}"
    )


def _took(plan: Plan, store: Store) -> str:
    """What the stages that would run took when they were last made, where that is known of every one."""
    last = [item.manifest or store.latest(item.stage.name) for item in plan.waiting]
    known = [manifest for manifest in last if manifest]
    if not known:
        return ""
    of = "" if len(known) == len(last) else f" {len(known)} of them"
    return f"; when last made{of} took {duration(sum(manifest.seconds for manifest in known))}"


def _show_requests(plan: Plan, store: Store) -> None:
    """What requests for removal reached, as long as the run that heeds them is to come."""
    from flows.recipe.removals import active, heeded

    extract = next(item for item in plan.stages if item.stage.name == "extract")
    done = set() if extract.runs or extract.manifest is None else heeded(extract.manifest)
    asked = active(store)
    left = [each for each in asked if each.ask not in done]
    if len(left) < len(asked):
        console.print(f"\n[dim]{plural(len(asked) - len(left), 'request')} for removal heeded: remove --list[/]")
    if left:
        pinned = "" if extract.runs else " that pins.extract does not heed"
        console.print(f"\n[bold]{plural(len(left), 'request')} for removal{pinned}[/]")
    for request in left:
        what = f"{request.kind} {printable(request.value)}, asked {request.at[:10]} by {request.by}"
        console.print(f"{escape(what)}: {plural(len({each.id for each in request.found}), 'document')}", soft_wrap=True)
        for line in request.reached_lines():
            console.print(f"  [dim]{escape(line)}[/]", soft_wrap=True)


def _show_kept(plan: Plan, store: Store) -> None:
    """A line for each source of the recipe: the share of its characters that each stage kept when it last ran."""
    from flows.report.accounts import accounts, shares

    found = accounts({item.stage.name: item.manifest or store.latest(item.stage.name) for item in plan.stages})
    wanted = set(plan.recipe.extract.sources) | set(plan.recipe.recall.domains if plan.recipe.recall else ())
    rows = [(source, cells) for source, cells in shares(found) if source in wanted]
    if rows:
        table = table_of("characters kept when last made", *found, right=found)
        for source, cells in rows:
            table.add_row(escape(source), *cells)
        console.print()
        console.print(table)


def _show_repeats(plan: Plan, store: Store) -> None:
    """A line for each training that would read a source too often, by the shards that there are, or were last."""
    from flows.recipe.repeats import repeat_lines
    from pipeline.tokens.metrics import ShardMetrics

    there = next((item.manifest for item in plan.stages if item.stage.name == "shards"), None)
    if (manifest := there or store.latest("shards")) is not None and (found := ShardMetrics.read(manifest.metrics)):
        for line in repeat_lines(plan.recipe, found):
            console.print(f"\n[yellow]{escape(line)}[/]")


@app.command()
def run(
    recipe: RecipeArgument = "sample",
    set_: SetOption = None,
    root: RootOption = None,
    from_: FromOption = None,
) -> None:
    """Run a recipe end to end; what is cached is not built again."""
    from flows.recipe.plan import make_plan
    from flows.recipe.recipe import load_recipe
    from infra.open_store import open_store

    loaded = load_recipe(recipe, set_ or [])
    settings = settings_for(root)
    store = open_store(settings)  # an unwritable root is told before anything starts
    gather_sample_text(loaded, lambda line: console.print(f"[dim]{line}[/]"))
    planned = make_plan(loaded, store, restart_from=from_)
    if not loaded.extract.sources and any(item.stage.name == "extract" for item in planned.waiting):
        raise UserError(
            f"{recipe}: extract.sources names no text; deepmill new FOLDER writes a recipe for a folder of it"
        )
    if not _show_finished(planned, settings, store, recipe):
        _run_flow(planned, store, recipe)


def _show_finished(plan: Plan, settings: Settings, store: Store, source: str) -> bool:
    """If nothing is left to do, show the summary of the run that did it; whether it was so."""
    if plan.waiting:
        return False
    recipe = plan.recipe
    record = next((each for each in records(store) if _did(each, plan)), None)
    if record is None:
        return False
    if recipe.has("export") and _holder(settings, recipe.model_name, recipe.promote.alias) != record.release.version:
        return False
    for stage in record.stages.values():
        stage.state, stage.seconds = "cached", 0.0
    record.ended = record.started  # this command made nothing, so it took no time
    console.print(f"Everything is cached, from run {record.run_id}.\n")
    _finish(record, store, source)
    return True


def _holder(settings: Settings, model: str, alias: str) -> str | None:
    """The version that holds the alias now; MLflow is imported only where its file cannot tell."""
    from infra.alias_lookup import CannotTellError, version_behind

    try:
        return version_behind(settings, model, alias)
    except CannotTellError:
        from flows.registry.names import alias_holder
        from infra.tracking import registry_client

        return alias_holder(registry_client(settings), model, alias)


def _did(record: RunRecord, plan: Plan) -> bool:
    """Whether a run made or found just the artifacts of `plan`, and its model, if there is one, became champion."""
    made = {name: stage.identity for name, stage in record.stages.items()}
    released = record.release.promoted or not plan.recipe.has("export")
    return record.state == "completed" and made == plan.identities and released


def _run_flow(plan: Plan, store: Store, source: str) -> None:
    """Run the flow `mill` in this process, on the Prefect server that its settings name or one for this run alone."""
    recipe = plan.recipe
    require("prefect", "mlflow", *(["torch"] if any(item.stage.family != "corpus" for item in plan.waiting) else []))
    _look_for_kernel(plan)
    console.print(f"[bold]{recipe.name}[/]  {recipe.description}")
    console.print(f"[dim]{len(plan.waiting)} stages to run; artifacts go to {store.address}[/]\n")
    from flows.recipe.stages import StageName
    from flows.run.session import planned_as

    with watched_flow(_mill) as mill, planned_as(plan):
        run_id = mill(recipe, restart_from=StageName(plan.restart_from) if plan.restart_from else None)
    _finish(find_record(store, run_id), store, source)


def _look_for_kernel(plan: Plan) -> None:
    """What pretraining would refuse after all the corpus was made, where it is to run on this machine."""
    layout, training = plan.recipe.execution, plan.recipe.pretrain
    wide = layout.of("pretrain")
    if layout.pools or wide.launcher is not Launcher.LOCAL or training is None:
        return
    is_waiting = any(item.stage.name == "pretrain" for item in plan.waiting)
    if is_waiting and (reason := refused(wide.attention, training.model.attention_width, here=True)):
        raise UserError(reason)


def _mill() -> Any:
    from flows.mill import mill

    return mill


def _finish(record: RunRecord, store: Store, source: str) -> None:
    """The summary, and the report if it is not there yet."""
    from flows.report.summary import print_summary

    path = report_file(store, record.run_id)
    if not path.exists():
        from flows.report.report import write_report  # draws charts

        write_report(record, store, path)
    print_summary(console, record, store, source)


@app.command()
def rerun(
    run_id: RunArgument,
    stage: Annotated[str | None, typer.Option("--stage", help="Only this stage.")] = None,
    root: RootOption = None,
) -> None:
    """Make a recorded run's artifacts again from the record and say whether the bytes agree."""
    from flows.run.diff import differences_today
    from flows.run.rerun import rerun_stages
    from infra.open_store import open_store

    store = open_store(settings_for(root))
    record = find_record(store, run_id)
    for change in differences_today(store, record):
        told = escape(f"{change.key}: {change.before} → {change.after}")
        console.print(f"[yellow]differs today[/] {change.section} {told}", soft_wrap=True)
    agreed = True
    for result in rerun_stages(store, record, stage):
        mark = f"[{'green' if result.same else 'red'}]{result.verdict}[/]"
        console.print(f"{result.stage:<14} {mark}  {result.seconds:6.1f} s  [dim]{result.text}[/]")
        agreed = agreed and result.same
    if not agreed:
        raise typer.Exit(1)


@app.command()
def status(root: RootOption = None, limit: Annotated[int, typer.Option(min=1, help="How many runs.")] = 15) -> None:
    """The latest runs, how they stand and what they made."""
    from flows.commands.servers import show_servers
    from flows.operations.interrupted import MESSAGE
    from infra.open_store import open_store

    settings = settings_for(root)
    show_servers(settings)
    store = open_store(settings, writes=False)
    names = store.runs()[-limit:]
    if not names:
        console.print(f"No run in {store.address} yet: deepmill run sample")
        return
    table = table_of("run", "state", "made", "cached", "model", right=("made", "cached"), whole=("run", "state"))
    for name in reversed(names):
        record = read_record(store, name)
        if record is None:
            continue
        stages, release = record.stages, record.release
        made = sum(stage.state == "made" for stage in stages.values())
        failed = [stage for stage, entry in stages.items() if entry.state in ("failed", "running")]
        outcome = f"{release.model} v{release.version}" if release.version else ""
        if release.promoted:
            outcome += " [green]champion[/]"
        elif told := record.error or (MESSAGE if record.state_now == "interrupted" else ""):
            first_line = told.splitlines()[0]
            outcome = f"[red]{escape(', '.join(failed) or 'error')}[/]: {escape(first_line)}"
        table.add_row(name, record.state_now, str(made), str(len(stages) - made - len(failed)), outcome)
    console.print(table)


@app.command()
def report(
    run_id: Annotated[str, typer.Argument(help="A run, or the beginning of its name; the latest when left out.")] = "",
    root: RootOption = None,
    to: Annotated[Path | None, typer.Option("--to", help="Where to write the page.")] = None,
) -> None:
    """Write one self-contained HTML page about a run."""
    from flows.report.report import write_report
    from infra.open_store import open_store

    store = open_store(settings_for(root), writes=False)
    record = find_record(store, run_id)
    try:
        path = write_report(record, store, to or report_file(store, record.run_id))
    except OSError as error:
        if to is not None:
            raise
        raise UserError(f"{error.filename}: {error.strerror}; say with --to where the page may be written") from None
    console.print(str(path), soft_wrap=True)
