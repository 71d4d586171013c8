"""Layers of multi-token prediction stay with the model: trained on where the next token is learned, else handed on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from model.architecture.checkpoint import load_config, load_model, prediction_bytes, save_model, with_prediction
from model.finetune_sections import GrpoConfig, SftConfig
from model.rl.grpo import grpo
from model.training.sft import sft
from tests.model.artifacts import shared_artifacts
from tests.model.conftest import tiny_model

LAYER = "model.layers.3."
SFT: dict[str, Any] = {"steps": 2, "batch_size": 4, "sequence_length": 96, "learning_rate": 1e-2, "accuracy_tasks": 0}
SFT |= {"validation_sequences": 4, "warmup_steps": 0, "replay": {"text": 0.0}}
GRPO: dict[str, Any] = {"steps": 1, "questions": 2, "group_size": 2, "max_new_tokens": 8, "accuracy_tasks": 2}
GRPO |= {"warmup_steps": 0, "replay": {"text": 0.0}}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = shared_artifacts()
    start = tmp_path_factory.mktemp("start")
    size = Tokenizer.from_file(str(made["tokenizer"] / "tokenizer.json")).get_vocab_size()
    save_model(tiny_model(vocab_size=size, num_nextn_predict_layers=1), start / "model", made["tokenizer"])
    return {name: made[name] for name in ("tokenizer", "reasoning", "shards")} | {"start": start}


def layer_of(folder: Path) -> dict[str, torch.Tensor]:
    weights = load_model(folder / "model", prediction=True).state_dict()
    return {name: weight for name, weight in weights.items() if name.startswith(LAYER)}


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> list[str]:
    assert before.keys() == after.keys() != set()
    return [name for name, weight in before.items() if not torch.equal(weight, after[name])]


def test_fine_tuning_trains_the_layer(inputs: dict[str, Path], tmp_path: Path) -> None:
    sft(SftConfig.model_validate(SFT), inputs, tmp_path)
    found = moved(layer_of(inputs["start"]), layer_of(tmp_path))
    assert {f"{LAYER}eh_proj.weight", f"{LAYER}shared_head.norm.weight", f"{LAYER}self_attn.o_proj.weight"} <= {*found}


@pytest.mark.parametrize("way", ["lora", "experts", "grpo"])
def test_what_does_not_train_the_layer_hands_it_on(way: str, inputs: dict[str, Path], tmp_path: Path) -> None:
    if way == "grpo":
        grpo(GrpoConfig.model_validate(GRPO), inputs, tmp_path)
    else:
        sft(
            SftConfig.model_validate(SFT | ({"lora": {"rank": 4}} if way == "lora" else {"trained": way})),
            inputs,
            tmp_path,
        )
    assert not moved(layer_of(inputs["start"]), layer_of(tmp_path))
    before, after = (load_model(folder / "model").state_dict() for folder in (inputs["start"], tmp_path))
    assert any(not torch.equal(weight, after[name]) for name, weight in before.items())


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_gets_its_layer_back(tied: bool, tmp_path: Path) -> None:
    save_model(tiny_model(num_nextn_predict_layers=1, tie_word_embeddings=tied), tmp_path / "begun", None)
    trained = tiny_model(seed=1, tie_word_embeddings=tied)
    whole = with_prediction(trained, tmp_path / "begun")
    tokens_BT = torch.randint(97, (1, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(whole(tokens_BT), trained(tokens_BT), atol=0, rtol=0)
    assert with_prediction(whole, tmp_path / "begun") is whole
    save_model(trained, tmp_path / "none", None)
    assert with_prediction(trained, tmp_path / "none") is trained
    save_model(whole, tmp_path / "whole", None)
    assert load_config(tmp_path / "whole").num_nextn_predict_layers == 1
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "none")]
    assert prediction_bytes(tmp_path / "none") == 0
    assert sizes[0] - prediction_bytes(tmp_path / "whole") == pytest.approx(sizes[1], rel=0.02)
