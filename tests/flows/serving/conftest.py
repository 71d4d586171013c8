"""Two taught models on disk, and a server of the first."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.serving.live import Live, Shelf, live
from tests.model.serving.talker import save_talker, taught


@pytest.fixture(scope="session")
def talkers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("talkers")
    return {number: save_talker(root / number, taught()) for number in ("1", "2")}


@pytest.fixture(scope="module")
def server(talkers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(Shelf(talkers), tmp_path_factory.mktemp("cache")) as running:
        yield running


@pytest.fixture(autouse=True)
def log() -> Iterator[logging.Logger]:
    """The server's log, left as it was: the command sends it to the terminal, also where it then refuses to serve."""
    found = logging.getLogger("deepmill.serve")
    before = list(found.handlers), found.propagate
    yield found
    found.handlers, found.propagate = before
