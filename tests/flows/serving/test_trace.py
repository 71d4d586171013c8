"""Where answers come from: asked of the API, and on the chat page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.chromium import CHROMIUM, Page
from tests.flows.serving.live import Live, Shelf, live, sure
from tests.pipeline.index.test_index import Sources, make_index, make_shards

IN_FULL = "one two three four five six seven eight"
TEXTS = {"counting": f"Somebody wrote <b>{IN_FULL}</b> and more.", "other": "Nothing of it stands here. " * 9}
LAST = "[...document.querySelectorAll('.turn.model')].at(-1)"


@pytest.fixture(scope="module")
def server(talkers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    root = make_shards(tmp_path_factory.mktemp("traced"), TEXTS | {f"rest{i}": "and so on " * 9 for i in range(6)})
    sources = Sources(make_index(root, "index", 1 << 20), root / "shards", root / "tokenizer", {"web": "CC0-1.0"})
    shelf = Shelf({"1": sure(talkers["1"], root / "sure")}, sources=sources)
    with live(shelf, root / "cache") as running:
        yield running


def test_a_text_is_traced(server: Live) -> None:
    with server.client() as client:
        assert client.get("/v1/models").json()["data"][0]["sources"] is True
        asked = {"model": "talker", "text": f"It said: {IN_FULL}, and was gone."}
        found = client.post("/v1/trace", json=asked).json()
        (span,) = found["spans"]
        assert (span["text"], span["words"], span["places"]) == (IN_FULL, 8, 1)
        assert asked["text"][span["begin"] : span["end"]] == IN_FULL
        (named,) = span["documents"]
        assert (named["id"], named["url"], named["licence"]) == ("counting", "http://h/counting", "CC0-1.0")
        for wrong, status, why in (
            ({"text": "too short"}, 400, "the text has 2 words"),
            ({"model": "other"}, 404, "other"),
            ({"min_words": 0}, 400, "min_words"),
        ):
            refused = client.post("/v1/trace", json=asked | wrong)
            assert refused.status_code == status
            assert why in refused.json()["error"]["message"]


def test_a_version_without_an_index_says_so(server: Live) -> None:
    served = server.manager.served
    assert served is not None
    kept, served.sources = served.sources, None
    try:
        with server.client() as client:
            refused = client.post("/v1/trace", json={"model": "talker", "text": IN_FULL})
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "no_index")
            assert client.get("/v1/models").json()["data"][0]["sources"] is False
    finally:
        served.sources = kept


@pytest.mark.drill
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_page_says_where_an_answer_comes_from(server: Live, tmp_path: Path) -> None:
    with Page(server.url, tmp_path) as page:
        page.until("document.querySelector('#model').textContent == 'talker, version 1'")
        page.type("Say it in full.")
        page.until("document.querySelector('#send').textContent == 'Send'")
        page.until(f"{LAST}?.querySelector('.text').textContent == '{IN_FULL}'")
        button = f"[...{LAST}.querySelectorAll('.bar button')].find(each => each.textContent == 'Where from?')"
        page.until(f"{button} != null")
        page.value(f"{button}.click()")
        page.until(f"{LAST}.querySelector('.sources blockquote')?.textContent == '{IN_FULL}'")
        assert page.value(f"{LAST}.querySelector('.sources p').textContent") == "8 words, in 1 place"
        assert page.value(f"{LAST}.querySelector('.sources .licence').textContent") == "(CC0-1.0) "
        assert page.value(f"{LAST}.querySelector('.sources a').href") == "http://h/counting"
        page.value(f"{button}.click()")
        page.until(f"{LAST}.querySelector('.sources') == null")
        assert not page.problems, page.problems
