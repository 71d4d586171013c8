"""The command serve: a registered model behind OpenAI's API, with a chat page."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from flows.commands.app import app, console, settings_for
from infra.errors import UserError

if TYPE_CHECKING:
    from flows.serving.model_manager import ModelManager

KEYS = "DEEPMILL_API_KEYS"


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
    poll_seconds: Annotated[float, typer.Option(min=0.1, help="How often the alias is looked up.")] = 5.0,
    keys_file: Annotated[
        Path | None, typer.Option(help=f"API keys, one a line; or {KEYS}, separated by commas.")
    ] = None,
) -> None:
    """Serve a model: OpenAI's API under /v1, a chat page at /, /health, Prometheus at /metrics."""
    from flows.serving.limits import Limits
    from flows.serving.metrics import Metrics
    from flows.serving.model_manager import ModelManager, Place
    from flows.serving.server import LOOPBACK, listen
    from flows.serving.server import serve as run
    from flows.serving.sources import find_source
    from model.serving.spec import EngineKind

    try:
        kind = EngineKind(engine)
    except ValueError:
        raise UserError(f"--engine {engine}: there are {', '.join(EngineKind)}") from None
    keys = _keys(keys_file)
    if host not in LOOPBACK and not keys:
        raise UserError(f"--host {host}: anyone could use the model; set {KEYS} or --keys-file first")
    settings = settings_for()
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
    house = ModelManager(
        source, Place(kind, context, concurrency, threads or cores, cache), metrics, poll_seconds=poll_seconds
    )
    listener = listen(host, port)
    _log_to_terminal()

    def ready(house: ModelManager) -> None:
        assert house.served is not None
        port = listener.getsockname()[1]
        version = house.served.version.label
        console.print(f"[bold]{version}[/] on {house.served.engine.spec.kind}: http://{host}:{port}", soft_wrap=True)
        console.print(f'[dim]client = OpenAI(base_url="http://{host}:{port}/v1", api_key=...), model="{name}"[/]')

    run(house, limits, metrics, listener, keys=keys, ready=ready)


def _keys(file: Path | None) -> list[str]:
    """The API keys of the file, or of the environment."""
    if file is None:
        return [key.strip() for key in os.environ.get(KEYS, "").split(",") if key.strip()]
    try:
        keys = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot read the API keys ({error})") from None
    if not keys:
        raise UserError(f"{file}: holds no API key; write one a line")
    return keys


def _log_to_terminal() -> None:
    """The server's few lines, with the time."""
    error = Console(stderr=True, highlight=False, soft_wrap=True)

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error.print(
                f"[dim]{self.formatter.formatTime(record) if self.formatter else ''}[/] {escape(record.getMessage())}"
            )

    handler = Lines()
    handler.setFormatter(logging.Formatter())
    logger = logging.getLogger("deepmill.serve")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False
