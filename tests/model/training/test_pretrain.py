"""The stage `pretrain`: its artifact, its bytes, its metrics. The shard reader is a stand-in; it has its own tests."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

import pipeline.tokens.reader
from infra.errors import UserError
from model.architecture.checkpoint import load_model
from model.facts.training import LayoutFacts, PretrainMetrics
from model.sections import PretrainConfig
from model.training.pretrain import pretrain
from model.training.sources import token_bytes
from tests.model.conftest import tiny_config
from tests.model.synthetic import CountingBatches
from tests.pipeline.tokens.pieces import learned, save_pieces


class _Reader:
    """As `ShardReader`, over made-up rows."""

    rows = 40
    source_rows: ClassVar = {"wiki": 40}
    mixture = None

    def __len__(self) -> int:
        return 5

    def __init__(self, folder: Path, split: str, *, global_batch: int, **rest: object) -> None:
        self._source = CountingBatches(global_batch)
        self._offset = 0 if split == "train" else 1000

    def batch(self, step: int, rank: int = 0, world: int = 1) -> SimpleNamespace:
        batch = self._source.batch(self._offset + step, rank, world)
        return SimpleNamespace(tokens=batch.tokens_BT, documents=batch.documents_BT)


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setattr(pipeline.tokens.reader, "ShardReader", _Reader)
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    vocabulary = {"<|eos|>": 0} | {"x" * number: number for number in range(1, 97)}
    special = [{"id": 0, "content": "<|eos|>", "special": True}]
    description = {"model": {"vocab": vocabulary}, "added_tokens": special}
    (tokenizer / "tokenizer.json").write_text(json.dumps(description))
    (tokenizer / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|eos|>"}))
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "shards.json").write_text("{}")
    return {"tokenizer": tokenizer, "shards": tmp_path / "shards"}


def _config(**changes: object) -> PretrainConfig:
    model = tiny_config(vocab_size=0).model_dump()
    fields = {"model": model, "steps": 8, "batch_size": 8, "learning_rate": 3e-3, "warmup_steps": 2}
    return PretrainConfig.model_validate(fields | changes)


def test_the_artifact_is_a_checkpoint_with_a_history(inputs: dict[str, Path], tmp_path: Path) -> None:
    metrics = pretrain(_config(), inputs, tmp_path / "out")
    model = load_model(tmp_path / "out" / "model")
    assert model.config.vocab_size == 97
    assert (tmp_path / "out" / "model" / "tokenizer.json").exists()
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert [row["step"] for row in history["steps"]] == list(range(1, 9))
    assert metrics.loss_after < metrics.loss_before
    assert metrics.bits_per_byte_after > 0
    assert metrics.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert metrics.tokens == 8 * 8 * 16
    assert metrics.layout == LayoutFacts(ranks=1, expert_parallel=1, zero=0)
    assert set(metrics.expert_load) == {"1", "2"}


def test_the_same_config_gives_the_same_bytes(inputs: dict[str, Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        pretrain(_config(), inputs, tmp_path / name)
        torch.rand(3)
    for file in ("model/model.safetensors", "model/config.json", "history.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_shards_are_read_ahead_and_the_metrics_come_back_typed(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    plain = _Reader.batch

    def batch(self: _Reader, *where: int) -> SimpleNamespace:
        threads.append(threading.current_thread().name)
        return plain(self, *where)

    monkeypatch.setattr(_Reader, "batch", batch)
    metrics = pretrain(_config(steps=3), inputs, tmp_path / "out")
    assert sum(name.startswith("read-ahead") for name in threads) == 3
    assert PretrainMetrics.read(json.loads(json.dumps(metrics.written()))) == metrics


def test_a_batch_that_does_not_divide_is_one_clear_line(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch_size 8 is not a multiple of micro_batch 3"):
        pretrain(_config(micro_batch=3), inputs, tmp_path / "out")


def test_token_bytes_of_sentencepieces_vocabulary(tmp_path: Path) -> None:
    bytes_V = token_bytes(save_pieces(tmp_path))
    assert bytes_V[: 3 + 256].tolist() == [0] * 3 + [1] * 256
    assert bytes_V[3 + 256 :].tolist() == [len(piece.replace("▁", " ").encode()) for piece in learned()[1]]


def test_token_bytes_counts_characters_of_the_byte_alphabet(inputs: dict[str, Path]) -> None:
    bytes_V = token_bytes(inputs["tokenizer"])
    assert bytes_V.tolist() == list(range(97))
