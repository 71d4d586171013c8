"""The model being served: from the registry or a folder to a running engine, and from one version to the next.

A version is prepared beside the one that serves: its files fetched and checked, its engine started and healthy. Then it
takes over between two requests; those under way end on the engine that they began on, which then leaves. A version
that cannot be prepared changes nothing. So does an alias that is gone: what served goes on serving.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.serving.errors import ApiError
from flows.serving.metrics import Metrics
from infra.errors import DeepmillError, UserError
from model.serving.defaults import SamplingDefaults, sampling_defaults
from model.serving.engine import Engine
from model.serving.gguf_file import draft_file, gguf_file
from model.serving.spec import CacheType, EngineKind
from pipeline.tokens.chat import ChatFormat

if TYPE_CHECKING:
    from pipeline.index.spans import Sources

__all__ = ["ModelManager", "Place", "Source", "Version", "prepare"]

log = logging.getLogger("deepmill.serve")
DRAIN_SECONDS = 600.0
RESTART_SECONDS = 30.0
"""How long a request waits for an engine that is being started again."""
RETRY_SECONDS = 60.0
"""After which a version that could not be prepared is tried again."""


@dataclass(frozen=True)
class Version:
    """A version of a model, as its files."""

    name: str
    number: str
    folder: Path

    @property
    def label(self) -> str:
        """What answers call it."""
        return f"{self.name}/{self.number}" if self.number else self.name


@dataclass(frozen=True)
class Source:
    """Where versions come from."""

    current: Callable[[], str | None]
    """The number to serve now, None while there is none. Called in a thread; may raise."""
    fetch: Callable[[str], Version]
    """The files of a number. Called in a thread; UserError when they are not what they should be."""
    aliases: Callable[[str], Collection[str]] = lambda number: ()
    """The aliases that name a number now. Called in a thread; may raise."""
    sources: Callable[[str], Sources | None] = lambda number: None
    """What finds texts in the training documents of a number; None where nothing does. Called in a thread."""


@dataclass(frozen=True)
class Place:
    """How engines run here."""

    engine: EngineKind
    context: int
    slots: int
    threads: int
    cache: Path
    """Folder for files that engines read and that are made from a version."""
    keys_and_values: CacheType = CacheType.AUTO
    """How engines keep those of the tokens already seen."""
    drafts: int = 0
    """Tokens that are guessed at a time; 0 for none."""
    drafter: Path | None = None
    """A smaller model that guesses for llama.cpp, in place of the model's own layer of multi-token prediction."""


@dataclass
class Served:
    """A version with its engine."""

    version: Version
    engine: Engine
    chat: ChatFormat
    context: int
    defaults: SamplingDefaults = field(default_factory=SamplingDefaults)
    aliases: frozenset[str] = frozenset()
    """What else the version may be asked for by, as ``NAME@ALIAS``."""
    sources: Sources | None = None
    """What finds texts in its training documents."""
    requests: int = 0
    """Under way."""
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    broken: bool = False

    def answers_to(self, name: str) -> bool:
        """Whether a request may name the version so; names are never paths."""
        model, at, alias = name.partition("@")
        return name in (self.version.name, self.version.label) or (
            bool(at) and model == self.version.name and alias in self.aliases
        )


def prepare(version: Version, place: Place) -> tuple[EngineKind, Path, ChatFormat, int]:
    """Look a version's files over and make what its engine reads.

    Returns:
        The engine that computes it, the file or folder it reads, the chat format, the most tokens of a request.

    Raises:
        UserError: the files are damaged, or do not fit together.
    """
    from model.architecture.checkpoint import load_config
    from model.release.gguf import unsupported
    from pipeline.tokens.chat import chat_format, read_tokenizer

    config = load_config(version.folder)
    tokenizer = read_tokenizer(version.folder)
    if tokenizer.get_vocab_size() > config.vocab_size:
        raise UserError(
            f"{version.folder / 'tokenizer.json'}: {tokenizer.get_vocab_size()} tokens, but the model knows "
            f"{config.vocab_size}: the tokenizer of another model; export the model again"
        )
    kind = place.engine
    if kind is EngineKind.AUTO:
        kind = EngineKind.OWN if unsupported(config, version.folder) else EngineKind.LLAMA
    path = version.folder
    if kind is EngineKind.LLAMA:
        path = gguf_file(version.folder, version.label, place.cache)
    elif kind is EngineKind.VLLM:
        path = _checkpoint(version, place)
    return kind, path, chat_format(tokenizer), min(place.context, config.max_position_embeddings)


def drafter(version: Version, place: Place, kind: EngineKind) -> tuple[int, Path | None]:
    """How many tokens an engine guesses at a time, and for llama.cpp the file that it guesses with.

    Where guesses are wanted and cannot be had, the log says why.
    """
    from model.architecture.checkpoint import load_config
    from model.release.gguf import undraftable

    config, reason = load_config(version.folder), None
    if not place.drafts or (kind is EngineKind.LLAMA and place.drafter is not None):
        return place.drafts, place.drafter if place.drafts else None
    if kind is EngineKind.LLAMA:
        reason = undraftable(config)
        reason = reason and f"{reason}; --drafter takes a small model of the same tokenizer"
    elif kind is EngineKind.VLLM:
        reason = "vLLM is not told to"
    elif not config.num_nextn_predict_layers:
        reason = "the model has no layer of multi-token prediction"
    if reason:
        log.warning("%s: no tokens are guessed: %s", version.label, reason)
        return 0, None
    return place.drafts, draft_file(version.folder, version.label, place.cache) if kind is EngineKind.LLAMA else None


def _checkpoint(version: Version, place: Place) -> Path:
    """The version's weights as a checkpoint that vLLM loads: the numbers that the blocks stand for, in full."""
    from model.architecture.checkpoint import save_model
    from model.release.quantized import KEY, load_quantized
    from model.release.vllm_config import write_config

    if KEY not in (version.folder / "config.json").read_text(encoding="utf-8"):
        return version.folder  # an export's has all that vLLM needs
    path = place.cache / version.label.replace("/", "-") / "engine" / "checkpoint"
    shutil.rmtree(path, ignore_errors=True)
    save_model(load_quantized(version.folder), path, version.folder)
    write_config(path)
    return path


class ModelManager:
    """Holds the served version, follows its source, and hands engines to requests."""

    def __init__(self, source: Source, place: Place, metrics: Metrics, *, poll_seconds: float = 5.0) -> None:
        self._source, self._place, self._metrics = source, place, metrics
        self._poll_seconds = poll_seconds
        self.served: Served | None = None
        self.trouble: str | None = None
        """Why the source's present wish is not what is served."""
        self._refused: dict[str, float] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Start serving; UserError when there is nothing to serve."""
        number = await asyncio.to_thread(self._source.current)
        if number is None:
            raise UserError("the alias names no version yet; see deepmill models")
        self._take_over(await self._start(number))
        self._keep(asyncio.create_task(self._follow()))

    async def _start(self, number: str) -> Served:
        version = await asyncio.to_thread(self._source.fetch, number)
        defaults = await asyncio.to_thread(sampling_defaults, version.folder)
        kind, path, chat, context = await asyncio.to_thread(prepare, version, self._place)
        place = self._place
        drafts, file = await asyncio.to_thread(drafter, version, place, kind)
        limits = {"context": context, "slots": place.slots, "threads": place.threads, "drafts": drafts}
        engine = await Engine.start(kind, path, **limits, cache=place.keys_and_values, drafter=file)
        served = Served(version, engine, chat, context, defaults)
        served.sources = await asyncio.to_thread(self._source.sources, number)
        with contextlib.suppress(Exception):  # `_look` says so when the registry does not answer
            served.aliases = frozenset(await asyncio.to_thread(self._source.aliases, number))
        return served

    def _take_over(self, new: Served) -> None:
        old, self.served = self.served, new
        self._metrics.serving(new.version.name, new.version.number)
        self._keep(asyncio.create_task(self._watch(new)))
        log.info("serving %s with %s", new.version.label, new.engine.spec.kind)
        if old is not None:
            self._keep(asyncio.create_task(self._retire(old)))

    async def _retire(self, old: Served) -> None:
        """Let the requests under way end, then end the engine."""
        old.broken = True  # its end is no accident
        try:
            if old.requests:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(old.idle.wait(), DRAIN_SECONDS)
        finally:
            await old.engine.close()

    async def _watch(self, served: Served) -> None:
        """Start an engine that died again."""
        await served.engine.ended()
        if served.broken or self.served is not served:
            return
        served.broken = True
        self._metrics.restarts.inc()
        log.warning("%s: the engine has died; starting it again", served.version.label)
        wait = 0.5
        while self.served is served:
            try:
                new = await self._start(served.version.number)
            except Exception as error:  # whatever it is: without an engine nothing is served
                log.warning("%s: %s", served.version.label, error, exc_info=not isinstance(error, DeepmillError))
                await asyncio.sleep(wait)
                wait = min(wait * 2, 30.0)
                continue
            if self.served is not served:
                await new.engine.close()
                return
            self._take_over(new)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            await self._look()

    async def _look(self) -> None:
        """Compare what is served with what the source wants."""
        served = self.served
        assert served is not None
        now = asyncio.get_running_loop().time()
        try:
            number = await asyncio.to_thread(self._source.current)
            served.aliases = frozenset(await asyncio.to_thread(self._source.aliases, served.version.number))
        except Exception as error:
            trouble = f"the registry does not answer ({type(error).__name__})"
            if trouble != self.trouble:  # told once, and where: it may be a fault of ours
                log.warning("%s", trouble, exc_info=not isinstance(error, DeepmillError))
            self.trouble = trouble
            return
        self._metrics.alias.set(number is not None)
        if number is None:
            self.trouble = "the alias names no version any more; the last one goes on serving"
        elif number == served.version.number:
            self.trouble = None
        elif now >= self._refused.get(number, 0.0):
            try:
                new = await self._start(number)
            except Exception as error:
                self._refused[number] = now + RETRY_SECONDS
                self.trouble = f"version {number} cannot be served: {error}"
                log.warning("%s", self.trouble, exc_info=not isinstance(error, DeepmillError))
                return
            self.trouble = None
            self._metrics.swaps.inc()
            self._take_over(new)

    @contextlib.asynccontextmanager
    async def engine(self, deadline: float) -> AsyncIterator[Served]:
        """The served version, held for one request; waits for an engine that is being started again."""
        loop = asyncio.get_running_loop()
        patience = min(deadline, loop.time() + RESTART_SECONDS)
        while self.served is None or self.served.broken:
            if loop.time() > patience:
                raise ApiError(503, "the engine is being started; try again soon", code="starting", retry=2)
            await asyncio.sleep(0.05)
        served = self.served
        served.requests += 1
        served.idle.clear()
        try:
            yield served
        finally:
            served.requests -= 1
            if not served.requests:
                served.idle.set()

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End everything."""
        if self.served is not None:
            self.served.broken = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.served is not None:
            await self.served.engine.close()
