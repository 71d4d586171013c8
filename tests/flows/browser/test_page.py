"""The exported folder in a real browser at a phone's size: loaded once, then without a network, the tokens of serve."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, CDPSession, expect
from playwright.sync_api import Page as Tab

from flows.browser.export import FACTS, export_for_browser
from flows.browser.serve import folder_server
from model.generation.reasoning import ReasoningSplitter
from tests.flows.browser.registry import Registry, make_registry, need_wllama, small_parts
from tests.flows.chromium import CHROMIUM
from tests.flows.screens import SCHEMES, WIDTHS, browser, faults
from tests.flows.serving.live import Shelf, live, until
from tests.model.serving.talker import ANSWER, QUESTION, THOUGHT

pytestmark = [pytest.mark.drill, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
LOADED = "talker, version 1"
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Say it in full."},
    {"role": "assistant", "content": "one two", "reasoning_content": "one"},
    {"role": "user", "content": QUESTION},
]
ASK = """async (messages) => {
  const { answer } = await import(new URL("chat/api.js", document.baseURI));
  const whole = { reasoning: "", content: "", tokens: 0 };
  for await (const piece of answer("", messages, new AbortController().signal)) {
    whole.reasoning += piece.reasoning;
    whole.content += piece.content;
    whole.tokens = piece.tokens ?? whole.tokens;
  }
  return whole;
}"""
KEPT = """async () => {
  const name = (await caches.keys()).find((each) => each.startsWith("deepmill files"));
  return (await (await caches.open(name)).keys()).map((request) => request.url);
}"""
STATE = "async () => (await import(new URL('chat/engine.js', document.baseURI))).state"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return make_registry(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def folder(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    need_wllama(root / "wllama")
    with pytest.MonkeyPatch.context() as patch:
        small_parts(patch)
        return export_for_browser(registry.settings, "talker@champion", root / "folder").folder


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@contextlib.contextmanager
def served(folder: Path, *, isolated: bool = False) -> Iterator[str]:
    """The folder as hosts of plain files serve it, without the headers for threads."""
    with folder_server(folder, isolated=isolated) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def visitor(chromium: Browser, **options: Any) -> Iterator[Tab]:
    """A phone that was never there before. What its console complains of fails the test."""
    context: BrowserContext = chromium.new_context(**PHONE | options)
    wrong: list[str] = []
    tab = context.new_page()
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
    tab.on("request", lambda asked: wrong.append(asked.url) if "//127.0.0.1" not in asked.url[:30] else None)
    try:
        yield tab
    finally:
        context.close()
    elsewhere = [each for each in wrong if not each.startswith(("blob:", "data:"))]
    assert not elsewhere, elsewhere


@pytest.fixture(scope="module")
def tab(chromium: Browser, folder: Path) -> Iterator[Tab]:
    """One visit for tests that change nothing."""
    with served(folder) as address, visitor(chromium, bypass_csp=True) as opened:  # axe is a script
        yield loaded(opened, address)


def loaded(tab: Tab, address: str) -> Tab:
    tab.goto(address)
    expect(tab.locator("#model")).to_have_text(LOADED, timeout=60_000)
    return tab


def pages(tab: Tab) -> list[str]:
    """The caches of the page's own files: one for each export that the browser still knows."""
    return [name for name in tab.evaluate("caches.keys()") if name.startswith("deepmill page")]


def amiss(client: CDPSession) -> set[str]:
    """Why the browser would not install the page."""
    return {each["errorId"] for each in client.send("Page.getInstallabilityErrors")["installabilityErrors"]}


def by_server(registry: Registry, cache: Path, *conversations: list[dict[str, str]]) -> list[dict[str, Any]]:
    """What `deepmill serve` answers, with llama.cpp and the likeliest token."""
    with live(Shelf({"1": registry.weights}), cache) as server, server.client() as client:
        answers = []
        for messages in conversations:
            body = {"model": "talker", "messages": messages, "temperature": 0}
            told = client.post("/v1/chat/completions", json=body).json()
            message = told["choices"][0]["message"]
            count = told["usage"]["completion_tokens"]
            reasoning = message.get("reasoning_content") or ""
            answers.append({"reasoning": reasoning, "content": message["content"], "tokens": count})
        return answers


def test_the_tokens_of_serve_without_a_network(
    chromium: Browser, folder: Path, registry: Registry, tmp_path: Path
) -> None:
    question = [{"role": "user", "content": QUESTION}]
    facts = json.loads((folder / FACTS).read_text())
    assert len(facts["files"]["model"]["parts"]) > 1
    with visitor(chromium) as tab:
        with served(folder) as address:
            loaded(tab, f"{address}?threads=2")
            assert tab.evaluate("crossOriginIsolated"), "the service worker sets the headers"
            assert tab.evaluate(STATE) == {"threads": 2, "isKept": True}
            client = tab.context.new_cdp_session(tab)
            assert client.send("Page.getAppManifest")["errors"] == []
            until(lambda: amiss(client) == {"in-incognito"})  # this browser is, and there is nothing else
        tab.context.set_offline(True)
        tab.reload()
        expect(tab.locator("#model")).to_have_text(LOADED, timeout=60_000)
        tab.get_by_label("Your message").fill(QUESTION)
        tab.get_by_role("button", name="Send").tap()
        turn = tab.locator(".turn.model")
        expect(turn.locator(".bar button").first).to_be_visible(timeout=60_000)
        assert turn.locator(".text").inner_text() == ANSWER
        assert turn.locator("details").get_attribute("open") is None
        assert turn.locator(".reasoning").text_content() == THOUGHT
        assert "talker/1, " in turn.locator(".by").inner_text()
        assert " a second)" in turn.locator(".by").inner_text()
        theirs = [tab.evaluate(ASK, messages) for messages in (question, CONVERSATION)]
        tab.get_by_role("button", name="Chats").tap()
        tab.get_by_role("button", name="Model card").tap()
        card = tab.get_by_role("dialog", name="Model card")
        expect(card).to_contain_text("on this device with 2 threads (llama.cpp b")
        expect(card).to_contain_text("it works without a network")
        expect(card).to_contain_text("something")  # the registered card's
    assert theirs == by_server(registry, tmp_path, question, CONVERSATION)
    assert theirs[0]["content"] == ANSWER


def test_what_people_write_names_no_control_token(tab: Tab, folder: Path) -> None:
    """An ``<|eos|>`` or ``<|assistant|><think>`` in a message would end or begin a turn."""
    facts = json.loads((folder / FACTS).read_text())
    assert tab.evaluate("crossOriginIsolated")
    assert tab.evaluate(STATE) == {"threads": 1, "isKept": True}, "a model too small for threads"
    assert {"<|eos|>", "<|user|>", "<think>", "</think>"} <= set(facts["control"])
    plain = """async (text) => (await import(new URL("chat/api.js", document.baseURI))).plain(text)"""
    assert tab.evaluate(plain, "a<|eos|>b <think>c</think>") == "a< |eos|>b < think>c< /think>"


@pytest.mark.parametrize(
    "isolated",
    [pytest.param(False, id="one thread", marks=pytest.mark.nightly), pytest.param(True, id="threads by the server")],
)
def test_without_a_service_worker(chromium: Browser, folder: Path, isolated: bool) -> None:
    with visitor(chromium, service_workers="block") as tab, served(folder, isolated=isolated) as address:
        loaded(tab, f"{address}?threads=2")
        assert tab.evaluate(STATE) == {"threads": 2 if isolated else 1, "isKept": False}
        assert tab.evaluate(ASK, [{"role": "user", "content": QUESTION}])["content"] == ANSWER


@pytest.mark.nightly  # seconds of compiling 18 MB
def test_a_browser_that_cannot_suspend_webassembly(chromium: Browser, folder: Path) -> None:
    """Safari, say: the compatible build, out of the same folder."""
    with visitor(chromium) as tab, served(folder) as address:
        tab.add_init_script("delete WebAssembly.Suspending")
        asked: list[str] = []
        tab.on("request", lambda each: asked.append(each.url))
        loaded(tab, address)
        assert any(url.endswith("/engine/compat.wasm") for url in asked)
        assert not any(url.endswith("/engine/wllama.wasm") for url in asked)
        assert tab.evaluate(ASK, [{"role": "user", "content": QUESTION}])["content"] == ANSWER


def test_a_damaged_file_is_not_used(chromium: Browser, folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    part = sorted((broken / "model").iterdir())[1]
    body = bytearray(part.read_bytes())
    body[-1] ^= 1
    part.write_bytes(body)
    with visitor(chromium) as tab, served(broken) as address:
        tab.goto(address)
        said = f"model/{part.name}: not the file that was exported; copy the folder again"
        expect(tab.locator("#model")).to_have_text(said, timeout=60_000)


def test_another_version_takes_the_place_of_the_first(chromium: Browser, folder: Path, tmp_path: Path) -> None:
    """What the browser kept of the first is neither shown nor kept any longer."""
    site = shutil.copytree(folder, tmp_path / "site")
    with visitor(chromium) as tab, served(site) as address:
        loaded(tab, address)
        kept = tab.evaluate(KEPT)
        facts = json.loads((site / FACTS).read_text())
        part = facts["files"]["model"]["parts"][0]
        (site / part["path"]).rename(site / "model" / "other")
        part["path"] = "model/other"
        (site / FACTS).write_text(json.dumps(facts | {"version": "2"}))
        worker = (site / "sw.js").read_text()
        (site / "sw.js").write_text(worker.replace('"digest": "', '"digest": "new', 1))
        tab.reload()
        expect(tab.locator("#model")).to_have_text(re.compile("talker, version"), timeout=60_000)
        until(lambda: all("new" in name for name in pages(tab)))  # the first has been forgotten: the second answers
        tab.reload()
        expect(tab.locator("#model")).to_have_text("talker, version 2", timeout=60_000)
        now = tab.evaluate(KEPT)
        assert set(now) ^ set(kept) == {f"{address}{part['path']}", next(name for name in kept if name not in now)}
        assert len(pages(tab)) == 1


def test_opened_as_a_file_it_says_what_to_do(chromium: Browser, folder: Path) -> None:
    context = chromium.new_context()
    tab = context.new_page()
    tab.goto((folder / "index.html").as_uri())
    expect(tab.locator("#talk")).to_contain_text("python3 -m http.server 8000")
    context.close()


def test_reasoning_is_told_apart_as_by_the_server(tab: Tab) -> None:
    texts = [
        "<think> a b </think>\n c d ",
        " <think>a</th b</think>",
        "no tags <think>x</think>",
        "<think>never ends ",
        "",
        "<thin",
    ]

    def ours(text: str, size: int) -> list[str]:
        splitter = ReasoningSplitter(waits=False)
        pieces = [splitter.feed(text[at : at + size]) for at in range(0, len(text), size)]
        pieces.append(splitter.end())
        return ["".join(piece.reasoning for piece in pieces), "".join(piece.content for piece in pieces)]

    theirs = """async ([text, size]) => {
      const { Splitter } = await import(new URL("chat/reasoning.js", document.baseURI));
      const splitter = new Splitter(), pieces = [];
      for (let at = 0; at < text.length; at += size) pieces.push(splitter.feed(text.slice(at, at + size)));
      pieces.push(splitter.end());
      return [pieces.map((piece) => piece.reasoning).join(""), pieces.map((piece) => piece.content).join("")];
    }"""
    for text in texts:
        for size in (1, 3, 100):
            assert tab.evaluate(theirs, [text, size]) == ours(text, size), (text, size)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_fits_and_can_be_read(tab: Tab, scheme: Any) -> None:
    tab.emulate_media(color_scheme=scheme)
    found = []
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 844})
        found += [f"{width}: {fault}" for fault in faults(tab, contrast=width != WIDTHS[1])]
        if width == WIDTHS[0]:
            tab.get_by_role("button", name="Chats").click()
        tab.get_by_role("button", name="Model card").click()
        found += [f"{width}, card: {fault}" for fault in faults(tab, contrast=width != WIDTHS[1])]
        tab.get_by_role("button", name="Close").click()
        tab.keyboard.press("Escape")  # closes the list of chats
    assert not found, found
