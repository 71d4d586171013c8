"""The index over a real S3 server: the answers of the folder, at the cost of the blocks that are looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.errors import UserError
from pipeline.index.spans import Sources
from tests.infra.s3_requests import Requests, on_server
from tests.pipeline.corpus import words
from tests.pipeline.index.test_index import make_index, make_shards

BUCKET = "s3://test/traced"
TEXTS = {f"d{i}": words(i, 400) for i in range(100)}

pytestmark = pytest.mark.drill


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_shards(tmp_path_factory.mktemp("index"), TEXTS)
    make_index(made, "index", 100_000)
    return made


@pytest.fixture(scope="module")
def remote(folder: Path, s3: dict[str, str]) -> Iterator[Any]:
    """A file system with the index and the shards below `BUCKET`."""
    with on_server(s3) as system:
        for name in ("index", "shards"):
            system.put(str(folder / name), f"{BUCKET}/{name}", recursive=True)
        yield system


def test_a_text_is_found_there_too_without_fetching_the_index(
    folder: Path, remote: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read goes by the words that are asked and not by the index; asked again, nothing is."""
    whole = sum(file.stat().st_size for file in (folder / "index" / "pieces").iterdir())
    there, here = (Sources(f"{place}/index", f"{place}/shards", folder / "tokenizer") for place in (BUCKET, folder))
    assert len(here.pieces) > 1
    for number, share in ((4, 5), (9, 5), (4, None)):
        planted = " ".join(TEXTS[f"d{number}"].split()[20:30])
        text = f"Wrote {planted} Nobody."
        with monkeypatch.context() as patch:
            requests = Requests(patch)
            found = there.find(text)
        assert found == here.find(text)
        assert [(span.text, span.documents[0]["id"]) for span in found] == [(planted, f"d{number}")]
        blocks = [size or whole for name, size in requests.seen if "/pieces/" in name]
        if share is None:
            assert blocks == []
            continue
        assert sum(blocks) < whole / share
        assert len(blocks) < 10 * 12 * len(here.pieces)


def test_what_is_cut_short_or_missing_there_is_told(folder: Path, remote: Any) -> None:
    copy = f"{BUCKET}-cut"
    remote.put(str(folder / "index"), f"{copy}/index", recursive=True)
    name = sorted((folder / "index" / "pieces").iterdir())[0].name
    remote.pipe_file(f"{copy}/index/pieces/{name}", b"1234")
    with pytest.raises(UserError, match=f"{name}: missing, or not as long as index.json says; make the index again"):
        Sources(f"{copy}/index", folder / "shards", folder / "tokenizer")
    with pytest.raises(UserError, match=r"no index\.json; this is not an index artifact"):
        Sources(f"{copy}/none", folder / "shards", folder / "tokenizer")
