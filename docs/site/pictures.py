"""The pictures of docs/screens.md, taken of a finished run: ``python -m docs.site.pictures STORE MODEL@ALIAS``.

Starts the servers on the store and serves the model, opens each page in headless Chromium and writes docs/pictures/.
Needs the packages of `make setup-tests` and Chromium.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.flows.chromium import CHROMIUM

OUT = Path(__file__).parents[1] / "pictures"
PHONE, DESK = (390, 800), (1400, 900)
DEEPMILL = [sys.executable, "-m", "flows.cli"]
PORTS = {"DEEPMILL_PREFECT_PORT": "4391", "DEEPMILL_MLFLOW_PORT": "5391", "DEEPMILL_PAGES_PORT": "4392"}
QUESTIONS = ("Hello, what can you do?", "Calculate 7 + 5 + 8.", "And 9 + 3 + 6?")
SETTLE = 2500
"""Milliseconds that a page has to draw itself."""


def main() -> None:
    """Take them all."""
    store, model = sys.argv[1:]
    environment = os.environ | PORTS | {"DEEPMILL_ROOT": store}
    said = subprocess.run([*DEEPMILL, "up"], env=environment, check=True, capture_output=True, text=True).stdout
    doors = {name: re.search(rf"{name} +(http\S+)", said).group(1) for name in ("Prefect", "Overview")}  # type: ignore[union-attr]
    try:
        with _served(model, environment) as chat, sync_playwright() as started:
            browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            _chat(browser, chat)
            _pages(browser, doors["Overview"])
            _form(browser, doors["Prefect"])
    finally:
        subprocess.run([*DEEPMILL, "down"], env=environment, check=True, capture_output=True)


@contextmanager
def _served(model: str, environment: dict[str, str]) -> Iterator[str]:
    """The address of the chat page."""
    command = [*DEEPMILL, "serve", model, "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as it:
        assert it.stdout is not None
        for line in it.stdout:
            if found := re.search(r"chat page: (\S+)", line):
                yield found.group(1)
                break
        it.terminate()


def _open(browser: Browser, size: tuple[int, int], address: str, scheme: str = "light") -> Page:
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(address)
    page.wait_for_timeout(SETTLE)
    return page


def _keep(page: Page, name: str) -> None:
    """As a PNG of 128 colours, which is enough for pages and a third of the size."""
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB").quantize(128)
    picture.save(OUT / f"{name}.png", optimize=True)
    print(OUT / f"{name}.png")


def _chat(browser: Browser, address: str) -> None:
    for name, size, scheme in (("chat", DESK, "light"), ("chat-phone", PHONE, "dark")):
        page = _open(browser, size, address, scheme)
        for number, question in enumerate(QUESTIONS, 1):
            box = page.locator("textarea").first
            box.fill(question)
            box.press("Enter")
            page.get_by_text("Again", exact=True).nth(number - 1).wait_for()
        time.sleep(1)
        _keep(page, name)


def _pages(browser: Browser, overview: str) -> None:
    for name, size, scheme in (("overview", DESK, "light"), ("overview-phone", PHONE, "dark")):
        page = _open(browser, size, overview, scheme)
        _keep(page, name)
        run = page.locator("a[href*='/runs/']:not([href*='flow-run']):not([href*='experiments'])").first
        page.goto(str(run.evaluate("link => link.href")))
        page.wait_for_timeout(SETTLE)
        _keep(page, name.replace("overview", "report"))
        if size is DESK:
            for heading in ("Corpus", "Pretraining", "Quality", "What the model says"):
                section = page.locator("h2", has_text=heading)
                if not section.count():  # of a run that found the stage made
                    print(f"{heading}: not in the latest run's report; its picture stays as it was")
                    continue
                section.first.evaluate("found => found.scrollIntoView()")
                page.wait_for_timeout(300)
                _keep(page, f"report-{heading.split()[-1].lower()}")


def _form(browser: Browser, address: str) -> None:
    page = _open(browser, DESK, address)
    base = address.partition("/?")[0]
    page.goto(f"{base}/deployments")
    deployment = page.locator("a[href*='/deployments/deployment/']", has_text="sample").first
    deployment.wait_for()
    page.wait_for_timeout(SETTLE)
    _keep(page, "prefect-deployments")
    page.goto(f"{base}{deployment.get_attribute('href')}/run")
    page.get_by_text("Raw files to documents").first.wait_for()
    page.wait_for_timeout(SETTLE)
    _keep(page, "prefect-form")


if __name__ == "__main__":
    main()
