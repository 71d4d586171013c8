"""Commands about the servers: up, down, worker, logs, deploy, doctor."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from flows.commands.app import RecipeArgument, RootOption, SetOption, app, console, settings_for
from infra.credentials import Credential
from infra.errors import UserError
from infra.extras import require

__all__ = ["show_servers"]

LEAST_MEMORY = 1_000_000
"""Bytes of a device; less is a number without its unit."""


@app.command()
def up(
    root: RootOption = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, and stop everything on Ctrl-C or SIGTERM; for containers.")
    ] = False,
) -> None:
    """Start Prefect, MLflow, the pages and a worker, and deploy every flow with its schedule."""
    from flows.operations.connection import known_login
    from flows.operations.deployments import check_schedule, plan_deployments
    from flows.operations.servers import service_group
    from flows.run.server_settings import ServerSettings
    from infra.services import keep, start_group, stop_group

    require("prefect", "mlflow")
    settings, servers = settings_for(root), ServerSettings()
    folder = servers.folder(settings)
    was_up = _is_up(folder)
    if not was_up:
        servers.check()
        plan_deployments(servers)  # a recipe that cannot be read is told before anything starts
        if servers.cron and {"cron", "timezone"} & servers.model_fields_set:
            check_schedule(servers.cron, servers.timezone)
    group = service_group(settings, servers)
    if foreground:
        _print_addresses(servers.addresses, None)
        raise typer.Exit(keep(folder, group.model_copy(update={"echo": True})))
    told: dict[str, str] = {}
    started = time.monotonic()
    try:
        for state in start_group(folder, group):
            for name, entry in state.services.items():
                if entry.state in ("up", "done", "restarting") and told.get(name) != entry.state:
                    told[name] = entry.state
                    address = f"  [dim]{entry.address}[/]" if entry.address else ""
                    mark = "[yellow]again[/]" if entry.state == "restarting" else "[green]✓[/]"
                    console.print(
                        f"{mark} {name:<16}{address}  [dim]{time.monotonic() - started:.0f} s[/]", soft_wrap=True
                    )
    except KeyboardInterrupt:
        if not was_up:
            stop_group(folder)
        raise
    console.print()
    _print_addresses(servers.addresses, None if servers.credentials() else known_login(settings, servers))
    console.print(
        "\n[dim]Start a run: Prefect → Deployments → mill/… → Run, or deepmill run. Stop it all: deepmill down[/]",
        soft_wrap=True,
    )


def _print_addresses(addresses: Mapping[str, str], credential: Credential | None) -> None:
    """Where people find the servers; with a credential as links that log a browser in."""
    for title, name in (("Prefect", "prefect"), ("MLflow", "mlflow"), ("Overview", "pages")):
        address = credential.link(addresses[name]) if credential else addresses[name]
        console.print(f"{title:<9} {escape(address)}", soft_wrap=True, highlight=False)
    if credential:
        console.print("[dim]Whoever has these links may do what you may; deepmill login prints them again.[/]")
    else:
        console.print("[dim]They ask for a login; deepmill login prints links that have it.[/]")


@app.command()
def login(root: RootOption = None) -> None:
    """Print links that log a browser in to Prefect, MLflow and the pages."""
    from flows.operations.connection import known_login, servers_up
    from flows.run.server_settings import ServerSettings

    settings, servers = settings_for(root), ServerSettings()
    state = servers_up(settings)
    credential = known_login(settings, servers)
    if credential is None or (state is None and not servers.servers):
        raise UserError("the servers of this store are not up; start them with deepmill up")
    _print_addresses(servers.addresses if servers.servers or state is None else state.facts, credential)


def _is_up(folder: Any) -> bool:
    from infra.services import is_kept

    return is_kept(folder)


@app.command()
def worker(root: RootOption = None) -> None:
    """Serve the work pools of DEEPMILL_POOLS for servers elsewhere (DEEPMILL_SERVERS), until Ctrl-C or SIGTERM."""
    from flows.operations.connection import connect
    from flows.operations.servers import worker_group
    from flows.run.server_settings import ServerSettings
    from infra.services import keep

    settings, servers = settings_for(root), ServerSettings()
    if not servers.pool_names:
        raise UserError("DEEPMILL_POOLS is empty; name the pools that this machine serves")
    if not connect(settings):
        raise UserError(
            f"{servers.prefect_url}: Prefect does not answer; set DEEPMILL_SERVERS to the host of deepmill up"
        )
    group = worker_group(settings, servers).model_copy(update={"echo": True})
    raise typer.Exit(keep(servers.folder(settings).with_name(".workers") / "-".join(servers.pool_names), group))


@app.command()
def down(root: RootOption = None) -> None:
    """Stop what `up` started, workers first; runs stop where they can go on, and everything is kept."""
    from flows.run.server_settings import ServerSettings
    from infra.services import stop_group

    folder = ServerSettings().folder(settings_for(root))
    console.print("everything is stopped" if stop_group(folder) else "nothing was up")


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="prefect, mlflow, pages, worker-POOL …; all of them when left out.")] = "",
    root: RootOption = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last lines.")] = 40,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing what comes.")] = False,
) -> None:
    """What the servers and workers said."""
    from flows.run.server_settings import ServerSettings
    from infra.services import log_file

    folder = ServerSettings().folder(settings_for(root))
    there = sorted(path.stem for path in (folder / "logs").glob("*.log"))
    if not there:
        raise UserError(f"{folder / 'logs'}: no logs; deepmill up has not run for this store")
    if name and name not in there:
        raise UserError(f"{name}: no such log; there are {', '.join(there)}")
    chosen = [name] if name else there
    places = {}
    for each in chosen:
        text = log_file(folder, each).read_text(errors="replace")
        places[each] = log_file(folder, each).stat().st_size
        for line in text.splitlines()[-lines:]:
            _print_line(each, line, alone=bool(name))
    while follow:
        time.sleep(0.5)
        for each in chosen:
            with log_file(folder, each).open("rb") as handle:
                handle.seek(min(places[each], handle.seek(0, 2)))
                fresh = handle.read()
                places[each] = handle.tell()
            for line in fresh.decode(errors="replace").splitlines():
                _print_line(each, line, alone=bool(name))


def _print_line(name: str, line: str, *, alone: bool) -> None:
    console.print(escape(line) if alone else f"[dim]{name:<15}[/] {escape(line)}", soft_wrap=True)


@app.command()
def deploy(
    recipe: RecipeArgument,
    set_: SetOption = None,
    root: RootOption = None,
    cron: Annotated[str, typer.Option("--cron", help="When it starts by itself: minute hour day month weekday.")] = "",
    pool: Annotated[str, typer.Option("--pool", help="The work pool its runs go to.")] = "",
) -> None:
    """Put a recipe into the Prefect UI, as a form that is filled in, with a schedule where one is given."""
    from flows.operations.connection import connect
    from flows.operations.deployments import Deployment
    from flows.operations.deployments import deploy as put
    from flows.recipe.anchor import anchored
    from flows.recipe.recipe import load_recipe
    from flows.run.server_settings import ServerSettings

    loaded = anchored(load_recipe(recipe, set_ or []), Path.cwd())  # its runs begin where `up` was started
    servers = ServerSettings()
    if not connect(settings_for(root)):
        raise UserError("the servers of this store are not up; start them with deepmill up")
    name = put(
        Deployment(
            "flows.mill:mill",
            loaded.name,
            loaded.description or f"The recipe {loaded.name}.",
            parameters={"recipe": loaded.model_dump(mode="json")},
            cron=cron,
            reschedules=True,
            timezone=servers.timezone,
            pool=pool or servers.deployed_pools[0],
            tags=("recipe",),
        )
    )
    console.print(f"deployed {name}{f', starts by itself at {cron} ({servers.timezone})' if cron else ''}")


@app.command()
def doctor(
    root: RootOption = None,
    cron: Annotated[bool, typer.Option("--cron", help="Wait until a scheduled run completes: up to 150 s.")] = False,
    relocate: Annotated[
        bool, typer.Option("--relocate", help="The store was moved or copied: have the registry name its files here.")
    ] = False,
    device: Annotated[
        str, typer.Option("--device", help="Instead: does this model fit a device? MODEL@ALIAS, a folder, a GGUF file.")
    ] = "",
    memory: Annotated[str, typer.Option("--memory", help="With --device: what it may take there.")] = "64MB",
    context: Annotated[
        int, typer.Option("--context", min=0, help="With --device: tokens of question and answer; 0 for the model's.")
    ] = 0,
) -> None:
    """Look at all that a run needs: versions, memory, GPU, disk, store, MLflow, servers, a cron run that completes."""
    from flows.operations.doctor import examine
    from infra.relocation import relocate as bring_here

    settings = settings_for(root)
    if device:
        raise typer.Exit(0 if _fits_device(settings, device, memory, context) else 1)
    if relocate:
        console.print(
            f"{bring_here(settings.local_root)} recorded paths brought to {settings.local_root}", soft_wrap=True
        )
    well = True
    for finding in examine(settings, cron=cron):
        mark = "[green]✓[/]" if finding.good else "[red]✗[/]"
        console.print(f"{mark} {finding.what:<11} {escape(finding.text)}", soft_wrap=True)
        well = well and finding.good
    if not well:
        raise typer.Exit(1)


def _fits_device(settings: Any, model: str, memory: str, context: int) -> bool:
    """Print what a model takes at each precision, and what to change; whether one fits."""
    from flows.operations.device import Device, device_files, fits
    from infra.units import read_size, size

    require("gguf")
    if (room := read_size(memory)) < LEAST_MEMORY:
        raise UserError(f"--memory {memory}: {room:,} bytes, where no model fits; write it as 64MB")
    device = Device(memory=room, context=context or None)
    table = Table(box=None, pad_edge=False, header_style="dim")
    parts = ("weights", "repacked", "vocabulary", "cache", "buffers", "program")
    for column in ("", "precision", "context", *parts, "total"):
        table.add_column(column, justify="left" if column in ("", "precision") else "right")
    found = list(fits(device_files(settings, model), device))
    for fit in found:
        mark = "[green]✓[/]" if fit.fits else "[red]✗[/]"
        sizes = [size(getattr(fit.footprint, part)) for part in (*parts, "total")]
        table.add_row(mark, fit.file.precision, f"{fit.context:,}", *sizes)
    console.print(table)
    console.print(f"\n[dim]llama.cpp on ARM64, in {size(device.memory)}; docs/device.md says what each part is.[/]")
    for fit in found:
        if not fit.fits:
            console.print(f"{fit.file.precision}: {fit.advice}", soft_wrap=True)
    return any(fit.fits for fit in found)


def show_servers(settings: Any) -> None:
    """What of the servers runs, above the runs in `status`; nothing where they are not up."""
    from flows.operations.connection import servers_up

    state = servers_up(settings)
    if state is None:
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, entry in state.services.items():
        if not entry.once:
            colour = "green" if entry.state == "up" else "yellow"
            again = f"restarted {entry.restarts} times" if entry.restarts else ""
            table.add_row(name, f"[{colour}]{entry.state}[/]", f"[dim]{entry.address}[/]", again)
    console.print(table)
    console.print()
