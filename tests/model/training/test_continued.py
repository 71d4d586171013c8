"""Continued pretraining: from a stage or a folder, both losses tracked, too much forgetting told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from infra.errors import UserError
from infra.execution import ENVIRONMENT_KEY
from model.architecture.checkpoint import load_model, save_model
from model.architecture.config import Family
from model.architecture.vocabulary import fit_vocabulary
from model.evaluation.evaluate import evaluate
from model.evaluation.sections import EvaluateConfig
from model.finetune_sections import ContinuedConfig, StartConfig
from model.training.continued import continued
from model.training.start import start
from pipeline.sections import ShardsConfig, TokenizerConfig
from pipeline.tokens.shards import shards
from pipeline.tokens.tokenizer import SPECIAL_TOKENS, tokenizer
from tests.model.artifacts import is_start_with_adapter, shared_artifacts
from tests.model.conftest import tiny_model
from tests.pipeline.corpus import published


@pytest.fixture(scope="module")
def inputs() -> dict[str, Path]:
    return shared_artifacts()


def _config(**changes: Any) -> ContinuedConfig:
    fields: dict[str, Any] = {
        "steps": 4, "batch_size": 4, "learning_rate": 3e-3, "warmup_steps": 0, "domain": ("book",),
        "mixture": {"book": 0.9, "wiki": 0.1}, "validation_sequences": 3,
    }  # fmt: skip
    return ContinuedConfig.model_validate(fields | changes)


def _read(inputs: dict[str, Path]) -> dict[str, Path]:
    return {name: inputs[name] for name in ("shards", "tokenizer")} | {"start": inputs["pretrain"]}


def test_domain_and_general_are_tracked_as_the_evaluation_measures_them(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    metrics = continued(_config(), _read(inputs), tmp_path)
    history = json.loads((tmp_path / "history.json").read_text())
    assert [row["step"] for row in history["validation"]] == [0, 4]
    assert metrics.bits_per_byte_domain_after < metrics.bits_per_byte_domain_before
    ratio = metrics.bits_per_byte_general_after / metrics.bits_per_byte_general_before
    assert metrics.forgetting == pytest.approx(ratio - 1, abs=1e-4)
    (tmp_path / "out").mkdir()
    config = EvaluateConfig(problems=1, max_new_tokens=2, sequences=3, prompts=(), samples=0)
    measured = evaluate(config, {**inputs, "continued": tmp_path}, tmp_path / "out")
    assert measured.named("bits_per_byte_continued_book") == pytest.approx(metrics.bits_per_byte_book_after, rel=1e-4)


def test_a_checkpoint_folder_is_as_good_as_a_stage(inputs: dict[str, Path], tmp_path: Path) -> None:
    continued(_config(), _read(inputs), tmp_path / "stage")
    folder = str(inputs["pretrain"] / "model")
    read = {name: inputs[name] for name in ("shards", "tokenizer")}
    continued(_config(checkpoint=(folder,)), read, tmp_path / "folder")
    assert published(tmp_path / "stage") == published(tmp_path / "folder")


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_from_elsewhere_gets_rows_for_the_tokens_it_lacks(
    inputs: dict[str, Path], tmp_path: Path, tied: bool
) -> None:
    """A llama of another maker with a tokenizer that knows no chat format, made ready for ours and trained."""
    foreign = tmp_path / "foreign"
    words = Tokenizer(models.BPE())
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=257, special_tokens=["</s>"], initial_alphabet=alphabet)
    words.train_from_iterator(["some text"], trainer)
    own = words.get_vocab_size()
    model = tiny_model(Family.LLAMA, vocab_size=own, tie_word_embeddings=tied)
    save_model(model, foreign, None)
    words.save(str(foreign / "tokenizer.json"))
    (foreign / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    made = inputs | {name: tmp_path / name for name in ("tokenizer", "shards")}
    for name in ("tokenizer", "shards", "out"):
        (tmp_path / name).mkdir()
    tokenizer(TokenizerConfig(adopt=(str(foreign),)), made, made["tokenizer"])
    shards(ShardsConfig(sequence_length=96, validation_fraction=0.2), made, made["shards"])
    read = {name: made[name] for name in ("shards", "tokenizer")}
    before = fit_vocabulary(load_model(foreign), foreign, made["tokenizer"])
    assert before.config.vocab_size == own + len(SPECIAL_TOKENS)
    assert torch.equal(before.lm_head.weight[:own], model.lm_head.weight)
    for number, token in enumerate(SPECIAL_TOKENS, start=own):
        pieces = words.encode(token).ids
        for rows in (before.lm_head.weight, before.model.embed_tokens.weight):
            assert torch.allclose(rows[number], rows[pieces].mean(0)), "the mean of its pieces, and no other's"
    assert (before.lm_head.weight is before.model.embed_tokens.weight) == tied
    text = torch.tensor([words.encode("some text").ids])
    assert torch.allclose(before(text)[..., :own], model(text), atol=1e-5)
    metrics = continued(_config(checkpoint=(str(foreign),)), read, tmp_path / "out")
    (tmp_path / "start").mkdir()
    started = start(StartConfig(checkpoint=(str(foreign),)), read, tmp_path / "start")
    assert started.tokens_added == len(SPECIAL_TOKENS)
    begun = load_model(tmp_path / "start" / "model").state_dict()
    assert all(torch.equal(value, begun[name]) for name, value in before.state_dict().items())
    assert metrics.bits_per_byte_domain_after < metrics.bits_per_byte_domain_before
    after = load_model(tmp_path / "out" / "model")
    assert after.config.vocab_size == own + len(SPECIAL_TOKENS)
    (foreign / "tokenizer.json").write_bytes((inputs["tokenizer"] / "tokenizer.json").read_bytes())
    with pytest.raises(UserError, match="which is not its own; name the checkpoint's folder"):
        fit_vocabulary(load_model(foreign), foreign, made["tokenizer"])


def test_adapters_go_on_reading(inputs: dict[str, Path], tmp_path: Path) -> None:
    metrics = continued(_config(lora={"rank": 4}, learning_rate=3e-2), _read(inputs), tmp_path)
    assert metrics.trained_parameters == is_start_with_adapter(tmp_path, inputs["pretrain"], {"rank": 4})
    assert metrics.bits_per_byte_domain_after < metrics.bits_per_byte_domain_before


def test_two_ranks_measure_what_one_does(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = continued(_config(), _read(inputs), tmp_path / "one")
    monkeypatch.setenv(ENVIRONMENT_KEY, json.dumps({"ranks": 2, "expert_parallel": 2}))
    two = continued(_config(), _read(inputs), tmp_path / "two")
    for name in ("bits_per_byte_domain_before", "bits_per_byte_general_before"):
        assert getattr(two, name) == pytest.approx(getattr(one, name), rel=1e-5)
    assert two.bits_per_byte_domain_after == pytest.approx(one.bits_per_byte_domain_after, rel=1e-2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"domain": ("maths",)}, "domain: no source is named maths; there are book, wiki"),
        ({"mixture": {"maths": 1.0}}, "maths"),
        ({"checkpoint": ("/nowhere",)}, r"continued\.checkpoint: /nowhere: name one local folder"),
        ({"mixture": {"book": 1.0}, "learning_rate": 30.0, "max_forgetting": 0.01}, "general bits per byte rose by"),
    ],
)
def test_what_is_wrong_is_said(inputs: dict[str, Path], tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        continued(_config(**changes), _read(inputs), tmp_path)


def test_a_start_that_is_not_there(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"start\.checkpoint: /nowhere: name one local folder"):
        start(StartConfig(checkpoint=("/nowhere",)), inputs, tmp_path)


def test_nothing_to_start_from(inputs: dict[str, Path], tmp_path: Path) -> None:
    read = {name: inputs[name] for name in ("shards", "tokenizer")}
    with pytest.raises(UserError, match="nothing to start from"):
        continued(_config(), read, tmp_path)
