"""Texts traced from a store on S3: as the command and as a server ask."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flows.cli import app
from flows.commands.app import console
from flows.registry.facts import LINEAGE
from flows.serving.sources import find_source
from infra.manifest import address
from infra.object_store import ObjectStore
from infra.settings import Settings
from tests.flows.prepared import prepare_mlflow
from tests.flows.registry.test_release import GOOD, versions
from tests.flows.registry.test_trace import publish
from tests.pipeline.corpus import words
from tests.pipeline.index.test_index import make_index, make_shards

ROOT = "s3://test/traced-store"
PLANTED = " ".join(words(4, 30).split()[3:12])
TEXT = f"Nobody wrote this, but {PLANTED}, and not that."

pytestmark = [pytest.mark.drill, pytest.mark.usefixtures("on_s3")]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A store on S3, as a machine sees it on which nothing of it was made."""
    made = make_shards(tmp_path, {f"d{i}": words(i, 30) for i in range(40)})
    shutil.rmtree(make_index(made, "index", 700) / ".work")
    store = ObjectStore(ROOT, tmp_path / "there")
    publish(store, "tokenizer", made / "tokenizer", config={})
    publish(store, "shards", made / "shards", config={}, inputs={"tokenizer": address("tokenizer", "tokenizer-1")})
    publish(store, "index", made / "index", config={}, inputs={"shards": address("shards", "shards-1")})
    prepare_mlflow(tmp_path / "scratch")
    monkeypatch.setenv("DEEPMILL_ROOT", ROOT)
    monkeypatch.setenv("DEEPMILL_SCRATCH", str(tmp_path / "scratch"))
    return Settings()


def test_a_text_is_traced_from_s3_and_nothing_but_the_tokenizer_is_fetched(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 200)
    client = versions(settings, "traced", GOOD, source=tmp_path.as_uri())
    client.set_model_version_tag("traced", "1", LINEAGE, json.dumps({"shards": "shards-1"}))
    for name in ((), ("traced/1",)):
        app(["trace", *name, "--text", TEXT], standalone_mode=False)
        shown = capsys.readouterr().out
        assert f"{PLANTED}\n9 words, in 1 place\n" in shown
        assert "d4 wiki not stated http://h/d4" in " ".join(shown.split())
    served = find_source("traced/1", settings, tmp_path / "cache")[1].sources("1")
    assert served is not None
    assert [span.text for span in served.find(TEXT)] == [PLANTED]
    assert [folder.name for folder in (tmp_path / "scratch" / ".fetched").iterdir()] == ["tokenizer"]
