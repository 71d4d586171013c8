"""A model in a browser beside llama.cpp on the same machine: the same answers, and how fast they are written.

    python -m bench.browser [--model deepmill-sample@champion] [--questions 50] [--quick] [--json FILE]

The model is one of the registry's (`DEEPMILL_ROOT`); Chromium has to be installed, and npm to fetch llama.cpp compiled
to WebAssembly. Browser and native engine compute the same file in turns, with the likeliest token: the text must be
equal on every question. Speeds are llama.cpp's own, of an answer of `TOKENS` tokens that does not end; the best of the
rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Page, sync_playwright

from bench.table import Row, row, show
from flows.browser.export import FACTS, export_for_browser
from flows.browser.serve import folder_server
from infra.settings import Settings
from model.release import llama_cpp
from tests.flows.chromium import CHROMIUM

TOKENS = 128
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
ASK = """async (asked) => {
  const { engine } = await import(new URL("chat/engine.js", document.baseURI));
  const wllama = await engine(() => {}), found = await wllama.createChatCompletion(asked);
  return { text: found.choices[0].message.content, timings: found.timings };
}"""
GREEDY = {"temperature": 0, "top_k": 0, "min_p": 0}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="deepmill-sample@champion")
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.questions, options.rounds = 5, 1
    with tempfile.TemporaryDirectory() as scratch:
        folder = export_for_browser(Settings(), options.model, Path(scratch) / "folder").folder
        rows = measure(folder, options.questions, options.rounds)
    show(rows, options.json)


def measure(folder: Path, questions: int, rounds: int) -> list[Row]:
    """All rows of one exported folder."""
    gguf = folder / "whole.gguf"
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    gguf.write_bytes(b"".join((folder / part["path"]).read_bytes() for part in facts["files"]["model"]["parts"]))
    asked = [f"Calculate {3 + number} + {7 * number % 10} + {number % 4}." for number in range(questions)]
    rows: list[Row] = []
    for threads in (1, 2):
        native = Native(gguf, facts["context"], threads)
        with in_browser(folder, threads) as (tab, seconds):
            if threads == 1:
                same = sum(native.ask(text)["text"] == ask(tab, text)["text"] for text in asked)
                rows.append(row("answers equal to the native ones", "", same, {}, questions))
            turns = [(speeds(ask(tab, asked[0], TOKENS)), speeds(native.ask(asked[0], TOKENS))) for _ in range(rounds)]
            ours, theirs = ([max(column) for column in zip(*side, strict=True)] for side in zip(*turns, strict=True))
            for name, mine, their in zip(("reading the prompt", "writing"), ours, theirs, strict=True):
                rows.append(row(f"{name}, threads {threads}", "tokens/s", mine, {"native": their}, 0.3))
            rows.append(row(f"from the address to ready, threads {threads}", "s", seconds, {}, None))
            rows.append(row(f"memory of the browser, threads {threads}", "MB", resident() / 1e6, {}, None))
    return rows


class Native:
    """llama.cpp on this machine, as `deepmill serve` starts it."""

    def __init__(self, path: Path, context: int, threads: int) -> None:
        import xllamacpp

        self._server = xllamacpp.Server(llama_cpp.parameters(path, context=context, slots=1, threads=threads))

    def ask(self, text: str, tokens: int = 0) -> dict[str, Any]:
        """An answer, with llama.cpp's own timings."""
        body = request(text, tokens) | {"reasoning_format": "none"}
        told = llama_cpp.ask(self._server.listening_address, "/v1/chat/completions", body)
        return {"text": told["choices"][0]["message"]["content"], "timings": told["timings"]}


def ask(tab: Page, text: str, tokens: int = 0) -> dict[str, Any]:
    """The same of the engine in the page."""
    found: dict[str, Any] = tab.evaluate(ASK, request(text, tokens))
    return found


def request(text: str, tokens: int) -> dict[str, Any]:
    """A question; with `tokens` an answer of so many, whatever is said."""
    long = {"max_tokens": tokens, "ignore_eos": True} if tokens else {"max_tokens": 256}
    return {"messages": [{"role": "user", "content": text}], "cache_prompt": False, **GREEDY, **long}


def speeds(told: dict[str, Any]) -> tuple[float, float]:
    """Tokens per second that were read and written."""
    return told["timings"]["prompt_per_second"], told["timings"]["predicted_per_second"]


@contextlib.contextmanager
def in_browser(folder: Path, threads: int) -> Iterator[tuple[Page, float]]:
    """The page at a phone's size, and the seconds until it was ready; two threads by the headers of the server."""
    with folder_server(folder, isolated=threads > 1) as server, sync_playwright() as started:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = chromium.new_context(**PHONE, service_workers="block").new_page()
        began = time.perf_counter()
        tab.goto(f"http://127.0.0.1:{server.server_port}/?threads={threads}")
        tab.locator("#model", has_text="version").wait_for(timeout=120_000)
        yield tab, time.perf_counter() - began
        chromium.close()
        server.shutdown()


def resident() -> int:
    """Bytes of memory of the largest process of the browser: the page with its engine."""
    children = psutil.Process().children(recursive=True)
    return max((each.memory_info().rss for each in children if "--type=renderer" in each.cmdline()), default=0)


if __name__ == "__main__":
    main()
