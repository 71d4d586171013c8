"""Replay: text beside a stage's own data, weighed by its mean loss, the same in any layout; and what it is for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from infra.execution import ENVIRONMENT_KEY
from model.architecture.checkpoint import load_model
from model.facts.training import forgetting
from model.finetune_sections import DpoConfig, GrpoConfig, ReplayConfig, SftConfig
from model.rl.dpo import dpo
from model.rl.grpo import grpo
from model.sections import OptimizerConfig
from model.training.batches import TrainingBatch
from model.training.engine import SingleEngine
from model.training.replay import Replay, Stream
from model.training.replay_sources import ReplaySources
from model.training.sft import sft
from tests.model.artifacts import shared_artifacts
from tests.model.conftest import tiny_model
from tests.pipeline.corpus import published


@pytest.fixture(scope="module")
def inputs() -> dict[str, Path]:
    made = shared_artifacts()
    return {name: made[name] for name in ("tokenizer", "reasoning", "shards")} | {"start": made["sft"]}


def _config(**changes: Any) -> SftConfig:
    fields: dict[str, Any] = {
        "steps": 3, "batch_size": 4, "sequence_length": 96, "learning_rate": 1e-2, "accuracy_tasks": 0,
        "validation_sequences": 4, "replay": {"text": 0.4, "validation_sequences": 4},
    }  # fmt: skip
    return SftConfig.model_validate(fields | changes)


class _Rows:
    """Rows of random tokens, the second half of which is learned."""

    def __init__(self, rows: int, length: int) -> None:
        self.rows, self.length = rows, length

    def batch(self, step: int, rank: int, world: int) -> TrainingBatch:
        generator = torch.Generator().manual_seed(step)
        tokens_BT = torch.randint(0, 97, (self.rows, self.length), generator=generator)
        mask_BT = torch.arange(self.length).expand(self.rows, -1) >= self.length // 2
        return TrainingBatch(tokens_BT[rank::world], None, mask_BT[rank::world])


@pytest.mark.parametrize("at_once", [1, 2, 9])
def test_the_gradient_is_that_of_the_mean_loss_times_the_weight(at_once: int) -> None:
    source = _Rows(rows=5, length=12)
    engine = SingleEngine(tiny_model(), OptimizerConfig(balance_loss=0, bias_update_speed=0))
    stream = Stream("text", source, source.rows, source.length, 0.25, at_once, "")
    losses = Replay([stream]).learn(engine, 7, lambda part: engine.losses(part)[0])
    plain, batch = tiny_model().train(), source.batch(7, 0, 1)
    logits_BTV = plain(batch.tokens_BT)[:, 5:-1]  # what predicts the learned half
    mean = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), batch.tokens_BT[:, 6:].flatten())
    (0.25 * mean).backward()
    assert losses["text_loss"].item() == pytest.approx(mean.item(), rel=1e-5)
    for (name, mine), theirs in zip(engine.model.named_parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None and theirs.grad.abs().max() > 0:
            torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_rows_follow_the_share_of_the_tokens_unless_they_are_named(inputs: dict[str, Path]) -> None:
    """4 rows of 96 tokens and a third more of text, in rows of 48 tokens."""
    words = Tokenizer.from_file(str(inputs["tokenizer"] / "tokenizer.json"))
    for named, wanted in ((0, 3), (7, 7)):
        config = ReplayConfig(text=0.25, rows=named)
        sources = ReplaySources(config, inputs, words, tokens=4 * 96, at_once=100, seed=0)
        (stream,) = sources.replay.streams
        assert (stream.rows, stream.at_once, sources.replay.tokens) == (wanted, 2, wanted * 48)
        assert stream.weight == pytest.approx(1 / 3)


def test_a_model_that_goes_on_reading_forgets_less(inputs: dict[str, Path], tmp_path: Path) -> None:
    found = {}
    for share in (0.0, 0.4):
        config = _config(steps=12, replay={"text": share, "validation_sequences": 4})
        found[share] = sft(config, inputs, tmp_path / str(share))
    without, beside = found[0.0], found[0.4]
    for source in ("book", "wiki"):
        name = f"bits_per_byte_{source}"
        assert beside.named(f"{name}_before") == pytest.approx(without.named(f"{name}_before"))
        assert beside.named(f"{name}_after") < without.named(f"{name}_after")
    assert beside.forgetting < without.forgetting
    assert beside.most_forgotten in ("book", "wiki")
    rows = json.loads((tmp_path / "0.4" / "history.json").read_text())["steps"]
    assert all(row["text_loss"] > 0 for row in rows)


def test_two_ranks_and_small_micro_batches_learn_the_same(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With three rows of text, of which the second rank has one and a row that teaches nothing."""
    changes = {"replay": {"text": 0.3, "rows": 3, "validation_sequences": 3}, "balance_loss": 0, "bias_update_speed": 0}
    one = sft(_config(**changes), inputs, tmp_path / "one")
    monkeypatch.setenv(ENVIRONMENT_KEY, json.dumps({"ranks": 2}))
    two = sft(_config(micro_batch=2, **changes), inputs, tmp_path / "two")
    assert two.layout.ranks == 2
    for name in ("bits_per_byte_book_before", "bits_per_byte_wiki_after", "loss_before", "loss_after"):
        values = (found.model_dump()[name] for found in (one, two))
        assert next(values) == pytest.approx(next(values), rel=1e-3)
    texts = [json.loads((tmp_path / name / "history.json").read_text())["steps"] for name in ("one", "two")]
    assert [row["text_loss"] for row in texts[0]] == pytest.approx([row["text_loss"] for row in texts[1]], rel=1e-3)


def test_reinforcement_and_preferences_replay_too(inputs: dict[str, Path], tmp_path: Path) -> None:
    replay = {"text": 0.3, "rows": 2, "validation_sequences": 2}
    common: dict[str, Any] = {"steps": 2, "max_new_tokens": 4, "accuracy_tasks": 2, "replay": replay}
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"prompt": "1 + 1?", "chosen": "<think></think>2", "rejected": "no"}) + "\n")
    reinforced = grpo(GrpoConfig.model_validate(common | {"questions": 2, "group_size": 2}), inputs, tmp_path / "grpo")
    preferring = dpo(
        DpoConfig.model_validate(common | {"files": (str(pairs),), "batch_size": 1, "warmup_steps": 0}),
        inputs,
        tmp_path / "dpo",
    )
    for name, metrics in (("grpo", reinforced), ("dpo", preferring)):
        history = json.loads((tmp_path / name / "history.json").read_text())
        assert all(row["text_loss"] > 0 for row in history["steps"])
        assert metrics.named("bits_per_byte_wiki_before") == pytest.approx(
            history["validation"][0]["bits_per_byte_wiki"]
        )
        assert metrics.forgetting is not None


def test_conversations_are_learned_beside(inputs: dict[str, Path], tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi, I can add."},
            {"role": "user", "content": "Thanks"}, {"role": "assistant", "content": "Gladly."}]  # fmt: skip
    (tmp_path / "conversations").mkdir()
    for split in ("train", "validation"):
        row = {"id": "x", "file": "talk", "messages": talk}
        (tmp_path / "conversations" / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    read = inputs | {"conversations": tmp_path / "conversations"}
    config = _config(steps=8, replay={"text": 0, "conversations": 0.5, "validation_sequences": 0})
    metrics = sft(config, read, tmp_path / "sft")
    assert metrics.named("conversations_loss_after") < 0.8 * metrics.named("conversations_loss_before")
    assert metrics.named("bits_per_byte_wiki_before") is None
    steps = json.loads((tmp_path / "sft" / "history.json").read_text())["steps"]
    assert steps[-1]["conversations_loss"] < steps[0]["conversations_loss"]


def test_without_text_nothing_is_read(inputs: dict[str, Path], tmp_path: Path) -> None:
    sft(_config(replay={"text": 0, "validation_sequences": 0}), inputs, tmp_path / "off")
    sft(_config(), {name: path for name, path in inputs.items() if name != "shards"}, tmp_path / "absent")
    assert published(tmp_path / "off") == published(tmp_path / "absent")
    assert "text_loss" not in json.loads((tmp_path / "off" / "history.json").read_text())["steps"][0]
    load_model(tmp_path / "off" / "model")


def test_what_was_forgotten_most() -> None:
    before = {"step": 0.0, "bits_per_byte_book": 2.0, "bits_per_byte_web": 4.0, "loss": 1.0}
    after = {"step": 9.0, "bits_per_byte_book": 2.5, "bits_per_byte_web": 3.0, "loss": 9.0}
    assert forgetting([before, after]) == {"forgetting": 0.25, "most_forgotten": "book"}
    assert forgetting([]) == forgetting([{"accuracy": 0.5}]) == {}
