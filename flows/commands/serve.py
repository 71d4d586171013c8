"""The command serve: a registered model behind OpenAI's API, with a chat page."""

from __future__ import annotations

import logging
import os
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from flows.commands.app import RootOption, app, console, settings_for, settings_of_registry
from flows.serving.keys import KEYS
from infra.errors import UserError

if TYPE_CHECKING:
    from flows.serving.model_manager import ModelManager

Choice = TypeVar("Choice", bound=StrEnum)


@app.command()
def serve(
    model: Annotated[
        str, typer.Argument(help="MODEL@ALIAS, which is followed as it moves; MODEL/VERSION; or a model folder.")
    ] = "deepmill-sample@champion",
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback it wants API keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    engine: Annotated[str, typer.Option(help="auto, llama, own or vllm.")] = "auto",
    concurrency: Annotated[int, typer.Option(min=1, help="Requests computed at once.")] = 4,
    waiting: Annotated[int, typer.Option(min=0, help="Requests that may wait; more are told to come back.")] = 64,
    context: Annotated[int, typer.Option(min=16, help="Most tokens of prompt and answer.")] = 4096,
    new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 2048,
    request_bytes: Annotated[int, typer.Option(min=1, help="Most bytes of a request.")] = 1 << 20,
    seconds: Annotated[float, typer.Option(min=1, help="Most time of a request.")] = 300.0,
    client_seconds: Annotated[float, typer.Option(min=1, help="Most silence of a client.")] = 20.0,
    threads: Annotated[int, typer.Option(min=0, help="Threads of the engine; 0 takes one per core.")] = 0,
    drafts: Annotated[
        int, typer.Option(min=0, max=8, help="Tokens guessed at a time by the model's layer of multi-token prediction.")
    ] = 0,
    drafter: Annotated[
        Path | None,
        typer.Option(help="GGUF file of a smaller model of the same tokens, which guesses for llama.cpp instead."),
    ] = None,
    cache_type: Annotated[
        str, typer.Option(help="Keys and values of tokens already seen: auto, or q8_0, in 8 bits (llama, own).")
    ] = "auto",
    poll_seconds: Annotated[float, typer.Option(min=0.1, help="How often the alias is looked up.")] = 5.0,
    keys_file: Annotated[
        Path | None,
        typer.Option(help=f"API keys, one a line; or {KEYS}, separated by commas. With neither, one is made."),
    ] = None,
    root: RootOption = None,
) -> None:
    """Serve a model: OpenAI's API under /v1, a chat page at /, /health, Prometheus at /metrics."""
    from flows.serving.keys import given_keys, own_key
    from flows.serving.limits import Limits
    from flows.serving.metrics import Metrics
    from flows.serving.model_manager import ModelManager, Place
    from flows.serving.server import LOOPBACK, listen
    from flows.serving.server import serve as run
    from flows.serving.sources import find_source
    from model.serving.spec import CacheType, EngineKind

    kind = _one_of(EngineKind, "--engine", engine)
    kept = _one_of(CacheType, "--cache-type", cache_type)
    keys = given_keys(keys_file)
    if host not in LOOPBACK and not keys:
        raise UserError(f"--host {host}: anyone could use the model; set {KEYS} or --keys-file first")
    if drafter is not None and not (drafter.is_file() and drafts):
        raise UserError(f"--drafter {drafter}: " + ("no such file" if drafts else "say how many with --drafts, as 3"))
    settings = settings_for(root) if Path(model).is_dir() else settings_of_registry(root)
    cache = settings.local_root / "serving"
    name, source = find_source(model, settings, cache)
    limits = Limits(
        concurrency=concurrency,
        waiting=waiting,
        request_bytes=request_bytes,
        context=context,
        new_tokens=new_tokens,
        seconds=seconds,
        client_seconds=client_seconds,
    )
    metrics = Metrics()
    cores = len(os.sched_getaffinity(0))
    manager = ModelManager(
        source,
        Place(kind, context, concurrency, threads or cores, cache, kept, drafts, drafter),
        metrics,
        poll_seconds=poll_seconds,
    )
    listener = listen(host, port)
    key_file = cache / "api-key"
    made = "" if keys else own_key(key_file)
    address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    _log_to_terminal()
    ready = partial(_tell, name=name, address=address, made=made, key_file=key_file)
    run(manager, limits, metrics, listener, keys=keys or [made], names=_names(host), origins=_origins(), ready=ready)


def _tell(manager: ModelManager, name: str, address: str, made: str, key_file: Path) -> None:
    """What is served and how to ask for it; `made` is the API key in `key_file`, empty where keys were given."""
    assert manager.served is not None
    version, serves = manager.served.version.label, manager.served.engine.spec.kind
    console.print(f"[bold]{escape(version)}[/] on {serves}: {address}", soft_wrap=True)
    if made:
        console.print(f"chat page: {address}/#key={made}", soft_wrap=True)
    key = f"open({str(key_file)!r}).read().strip()" if made else '"..."'
    console.print("[dim]from Python:[/]")
    console.print(f'[dim]  client = OpenAI(base_url="{address}/v1", api_key={escape(key)})[/]', soft_wrap=True)
    asked = f'client.chat.completions.create(model="{name}", messages=[{{"role": "user", "content": "Hello"}}])'
    console.print(f"[dim]  {escape(asked)}[/]", soft_wrap=True)
    console.print("[dim]Ctrl-C stops the server.[/]")


def _one_of(choices: type[Choice], option: str, given: str) -> Choice:
    """The choice that an option names; UserError where there is none of that name."""
    try:
        return choices(given)
    except ValueError:
        raise UserError(f"{option} {given}: there are {', '.join(choices)}") from None


def _names(host: str) -> list[str]:
    """Names that requests may address the server by: its address, this machine's, and those that are allowed."""
    import socket

    import psutil

    allowed = [name.strip() for name in os.environ.get("DEEPMILL_ALLOWED_HOSTS", "").split(",") if name.strip()]
    addresses = [address.address for each in psutil.net_if_addrs().values() for address in each]
    found = [host, socket.gethostname(), socket.getfqdn(), *(address.partition("%")[0] for address in addresses)]
    return [*(f"[{name}]" if ":" in name else name for name in found), *allowed]


def _origins() -> list[str]:
    """Origins of pages elsewhere that may ask the API."""
    from flows.serving.cors import ORIGINS, read_origins

    return read_origins(os.environ.get(ORIGINS, ""))


def _log_to_terminal() -> None:
    """The server's few lines, with the time; a fault's traceback follows its line."""
    error = Console(stderr=True, highlight=False, soft_wrap=True)

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error.print(escape(self.format(record)))

    handler = Lines()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("deepmill.serve")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False
