"""Engines as processes: the same answer from each, damaged files refused in one line, nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.errors import UserError
from model.architecture.config import Family
from model.release.gguf import draft_units, write_gguf
from model.release.quantized import plain_unit, read_units
from model.release.units import units
from model.serving.engine import Engine, EngineError, Request
from model.serving.own import Writer
from model.serving.spec import CacheType, EngineKind
from pipeline.tokens.chat import chat_format
from tests.model.conftest import tiny_model
from tests.model.serving.talker import ANSWER, QUESTION, THOUGHT, save_talker, save_tokenizer, taught, words

SAID = f"<think>{THOUGHT}</think>{ANSWER}"
PLACE = {"context": 96, "slots": 2, "threads": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_talker(tmp_path_factory.mktemp("talker"))


@pytest.fixture(scope="module")
def gguf(folder: Path) -> Path:
    path = folder.parent / "model-q8_0.gguf"
    config, stored = read_units(folder)
    write_gguf(path, config, stored, folder, name="talker")
    return path


async def said(engine: Engine, request: Request) -> tuple[str, str | None, int | None]:
    text, finish, tokens = "", None, None
    async for delta in engine.complete(request):
        text, finish = text + delta.text, delta.finish or finish
        tokens = delta.completion_tokens or tokens
    return text, finish, tokens


def with_engine(
    kind: EngineKind,
    path: Path,
    use: Callable[[Engine], Awaitable[None]],
    cache: CacheType = CacheType.AUTO,
    **drafts: Any,
) -> None:
    async def main() -> None:
        engine = await Engine.start(kind, path, **PLACE, cache=cache, **drafts)
        try:
            await use(engine)
        finally:
            await engine.close()
        assert not engine.alive

    asyncio.run(main())


GUESSED = "completion_tokens_details"


@pytest.fixture(scope="module")
def guessing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a talker with a layer of multi-token prediction."""
    return save_talker(tmp_path_factory.mktemp("guessing"), taught(predicts=True))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"temperature": 1.5, "seed": 5},
        {"temperature": 0.8, "top_p": 0.9, "seed": 1, "presence_penalty": 0.5},
        {"grammar": "%llguidance {}\nstart: /[a-z 0-9]{12}/"},
        {"stop": ["12 12"]},
        {"max_tokens": 3},
    ],
    ids=str,
)
def test_our_own_engine_says_the_same_with_guesses(change: dict[str, Any], guessing: Path) -> None:
    """Sampled answers too, and those that a grammar holds: every token is chosen from the model's own logits."""
    asked = chat_format(words()).question(QUESTION)
    plain, ahead = Writer(guessing), Writer(guessing, drafts=3)
    for prompt in (asked, asked, [*asked, *words().encode("<think>4+8", add_special_tokens=False).ids]):
        fields: dict[str, Any] = {"max_tokens": 40, "logprobs": 1} | change
        body = Request(prompt, **fields).body()
        found = [list(writer.write(body)) for writer in (plain, ahead)]
        said = ["".join(event["choices"][0]["text"] for event in events if event["choices"]) for events in found]
        assert said[0] == said[1]
        usage = [events[-1]["usage"] for events in found]
        assert usage[0]["completion_tokens"] == usage[1]["completion_tokens"]
        assert GUESSED not in usage[0]
        if not change:
            assert usage[1][GUESSED]["accepted_prediction_tokens"] > usage[1]["completion_tokens"] / 2


@pytest.mark.parametrize("guesser", ["own", "its layer", "a smaller model"])
def test_engines_guess_as_processes(guesser: str, guessing: Path, gguf: Path) -> None:
    kind, path, drafter = EngineKind.OWN, guessing, None
    if guesser != "own":
        kind, path, drafter = EngineKind.LLAMA, guessing.parent / "model-q8_0.gguf", gguf
        config, stored = read_units(guessing)
        write_gguf(path, config, stored, guessing, name="talker")
        if guesser == "its layer":
            config, stored = read_units(guessing, prediction=True)
            drafter = guessing.parent / "model-mtp-q8_0.gguf"
            write_gguf(drafter, config, draft_units(config, stored), guessing, name="talker")

    async def use(engine: Engine) -> None:
        assert (await said(engine, Request(chat_format(words()).question(QUESTION), 40)))[0] == SAID

    with_engine(kind, path, use, drafts=3, drafter=drafter)


@pytest.mark.parametrize("kind", [EngineKind.LLAMA, EngineKind.OWN])
def test_both_engines_say_what_was_taught(kind: EngineKind, folder: Path, gguf: Path) -> None:
    prompt = chat_format(words()).question(QUESTION)
    length = len(words().encode(SAID + "<|eos|>", add_special_tokens=False).ids)

    async def use(engine: Engine) -> None:
        text, finish, tokens = await said(engine, Request(prompt, 60))
        assert (text, finish) == (SAID, "stop")
        assert tokens in (length, length - 1)  # llama.cpp counts the end
        text, finish, _ = await said(engine, Request(prompt, 4))
        assert finish == "length"
        assert SAID.startswith(text)
        text, finish, _ = await said(engine, Request(prompt, 60, stop=("12 12",)))
        assert (text, finish) == (SAID.partition("12 12")[0], "stop")
        sampled = [await said(engine, Request(prompt, 8, temperature=2.0, seed=seed)) for seed in (1, 2, 3)]
        assert len(set(sampled)) > 1
        both = await asyncio.gather(*(said(engine, Request(prompt, 60)) for _ in range(5)))
        assert {text for text, _, _ in both} == {SAID}
        with pytest.raises(EngineError, match="400"):
            await said(engine, Request(prompt * 60, 60))
        assert await engine.healthy()

    with_engine(kind, gguf if kind is EngineKind.LLAMA else folder, use)


def test_keys_and_values_in_8_bits_say_the_same(folder: Path) -> None:
    async def use(engine: Engine) -> None:
        prompt = chat_format(words()).question(QUESTION)
        for _ in range(2):  # the second time from the cache of the first
            assert (await said(engine, Request(prompt, 60)))[:2] == (SAID, "stop")

    with_engine(EngineKind.OWN, folder, use, CacheType.Q8_0)


@pytest.mark.parametrize("family", [Family.DEEPSEEK_V3, Family.LLAMA])
def test_llama_cpp_keeps_them_in_8_bits_too(family: Family, tmp_path: Path) -> None:
    """Latents of 64 numbers and heads of 32: near what it says by itself, and not the same."""
    widths = {"hidden_size": 64, "kv_lora_rank": 32, "qk_rope_head_dim": 32, "head_dim": 32}
    model = tiny_model(family, vocab_size=words().get_vocab_size(), **widths)
    path, stored = tmp_path / "model-f32.gguf", {name: plain_unit(each, None) for name, each in units(model).items()}
    write_gguf(path, model.config, stored, save_tokenizer(tmp_path / "words"), name="tiny")
    told: list[dict[int, float | None]] = []

    async def use(engine: Engine) -> None:
        asked = Request([5, 9, 30, 77, 12, 8] * 4, 1, logprobs=20, logit_bias={70: 1000.0})
        async for delta in engine.complete(asked):
            told.extend({top["id"]: top["logprob"] for top in entry["top_logprobs"]} for entry in delta.entries)

    for cache in CacheType:
        with_engine(EngineKind.LLAMA, path, use, cache)
    exact, near = told
    both = [(exact[token] or 0.0, near[token] or 0.0) for token in exact.keys() & near.keys()]
    assert len(both) >= 10
    assert 1e-6 < max(abs(one - other) for one, other in both) < 0.3


def test_a_width_that_llama_cpp_cannot_keep_in_8_bits_is_named(gguf: Path) -> None:
    with pytest.raises(UserError, match=r"a head has 48 numbers per key, 8 bits want a multiple of 32: --cache-type"):
        with_engine(EngineKind.LLAMA, gguf, lambda engine: asyncio.sleep(0), CacheType.Q8_0)


def test_an_engine_that_keeps_no_such_cache_says_so(folder: Path) -> None:
    with pytest.raises(UserError, match=r"^vllm keeps no cache in q8_0: leave it at auto, or set"):
        with_engine(EngineKind.VLLM, folder, lambda engine: asyncio.sleep(0), CacheType.Q8_0)


def test_the_own_engine_serves_what_llama_cpp_cannot(tmp_path: Path) -> None:
    model = taught(Family.DEEPSEEK)
    folder = save_talker(tmp_path, model)

    async def use(engine: Engine) -> None:
        assert (await said(engine, Request(chat_format(words()).question(QUESTION), 60)))[0] == SAID

    with_engine(EngineKind.OWN, folder, use)


def start(kind: EngineKind, path: Path) -> None:
    with_engine(kind, path, lambda engine: asyncio.sleep(0))


@pytest.mark.parametrize("damage", ["cut", "noise", "foreign"])
def test_a_damaged_gguf_is_refused(gguf: Path, tmp_path: Path, damage: str) -> None:
    whole = gguf.read_bytes()
    path = tmp_path / "model-q8_0.gguf"
    changed = {"cut": whole[: len(whole) // 2], "noise": os.urandom(5000), "foreign": None}[damage]
    if changed is None:
        changed = whole.replace(b"deepseek2", b"deepstar2")
    path.write_bytes(changed)
    with pytest.raises(UserError, match=r"model-q8_0\.gguf: cannot be served") as told:
        start(EngineKind.LLAMA, path)
    assert "\n" not in str(told.value)


def test_damaged_safetensors_are_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match=r"model\.safetensors: not readable"):
        start(EngineKind.OWN, tmp_path)


def test_vllm_where_there_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPMILL_VLLM", "/no/such/vllm")
    with pytest.raises(UserError, match="no such command"):
        start(EngineKind.VLLM, folder)


@pytest.mark.parametrize("kind", [EngineKind.LLAMA, EngineKind.OWN])
def test_a_killed_engine_is_an_error_and_leaves_nothing(kind: EngineKind, folder: Path, gguf: Path) -> None:
    async def use(engine: Engine) -> None:
        supervisor = psutil.Process(engine._process.pid)
        (child,) = supervisor.children(recursive=True)
        request = Request(chat_format(words()).question("Say it in full."), 70, temperature=5.0)
        os.kill(child.pid, signal.SIGSTOP)  # in the middle of an answer, however fast the machine
        waiting = asyncio.ensure_future(anext(engine.complete(request)))
        assert not (await asyncio.wait({waiting}, timeout=0.2))[0]
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(EngineError):
            await asyncio.wait_for(waiting, 90)
        with pytest.raises(EngineError):
            await said(engine, request)
        await asyncio.wait_for(engine.ended(), 90)
        assert not child.is_running()

    with_engine(kind, gguf if kind is EngineKind.LLAMA else folder, use)
