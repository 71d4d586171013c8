"""The chat page in a real browser: asked as a person would, thoughts folded, version shown, nothing injected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.chromium import CHROMIUM, Page
from tests.flows.serving.live import Live, Shelf, live, sure
from tests.model.serving.talker import ANSWER, QUESTION, THOUGHT

pytestmark = [pytest.mark.drill, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]
LAST = "[...document.querySelectorAll('.turn.model')].at(-1)"


@pytest.fixture(scope="module")
def server(talkers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One that says the same each time: the page names no temperature."""
    root = tmp_path_factory.mktemp("page")
    with live(Shelf({"1": sure(talkers["1"], root / "sure")}), root / "cache", keys=("secret",)) as running:
        yield running


def test_a_conversation(server: Live, tmp_path: Path) -> None:
    with Page(f"{server.url}/#key=secret", tmp_path) as page:
        page.until("document.querySelector('#model').textContent == 'talker, version 1'")
        assert page.value("location.href") == f"{server.url}/"  # the key is not left in the address
        page.type(QUESTION)
        page.until(f"{LAST}?.querySelector('.text').textContent == '{ANSWER}'")
        page.until("document.querySelector('#send').textContent == 'Send'")
        assert page.value(f"{LAST}.querySelector('.reasoning').textContent") == THOUGHT
        assert page.value(f"{LAST}.querySelector('details').open") is False
        assert page.value(f"{LAST}.querySelector('.by').textContent").startswith("talker/1, ")
        page.value(f"{LAST}.querySelector('summary').click()")
        page.type("<img src=x onerror='document.title=1'>")
        page.until("document.querySelectorAll('.turn.model .by:not(:empty)').length == 2")
        assert page.value("document.querySelectorAll('main img').length") == 0
        page.until("document.querySelector('#send').textContent == 'Send'")
        page.screenshot(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 10_000
        assert not page.problems, page.problems


def test_a_key_is_asked_for(server: Live, tmp_path: Path) -> None:
    with Page(server.url, tmp_path) as page:
        page.until("document.querySelector('#door').open")
        page.value("document.querySelector('#key').focus()")
        page.type("secret")
        page.until("document.querySelector('#model').textContent == 'talker, version 1'")
        page.value("document.querySelector('#question').focus()")
        page.type(QUESTION)
        page.until(f"{LAST}?.querySelector('.text').textContent == '{ANSWER}'")
