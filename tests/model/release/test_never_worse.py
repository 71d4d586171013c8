"""Calibration is kept where it helps: few rows, or rows unlike those that are judged, never cost more than rounding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from model.release.calibrate import calibrate
from model.release.quantize import _calibration_rows, quantize
from model.release.quantized import make_plan
from model.release.rounding import rounded
from model.release.rows import CalibrationBatch, conversation_rows
from model.release.units import Role
from model.sections import Precision, QuantizeConfig
from pipeline.tokens.chat import read_tokenizer
from tests.model.artifacts import shared_artifacts
from tests.model.conftest import tiny_model


@pytest.mark.parametrize(("seed", "gradients"), [(0, 0), (1, 0), (2, 4)])
def test_few_rows_never_cost_more_than_rounding(seed: int, gradients: int, tmp_path: Path) -> None:
    made = shared_artifacts()
    made["model"] = made["grpo"]
    config = QuantizeConfig(
        calibration_sequences=1, evaluation_sequences=4, accuracy_problems=0, damping=1e-4, expert_tokens=1, seed=seed,
        gradient_sequences=gradients,
    )  # fmt: skip
    quantize(config, made, tmp_path)
    report = json.loads((tmp_path / "quantization.json").read_text())["precisions"]
    for name in ("int8", "int4"):
        plain = report[name]["rounded_to_nearest"]
        assert report[name]["kl"] <= plain["kl"]
        assert report[name]["reasoning"]["kl"] <= plain["reasoning"]["kl"]


def test_codes_that_do_not_help_on_held_out_rows_are_not_kept() -> None:
    """Calibrated on one token said over and over, judged on all others: what GPTQ does for that token is a loss."""
    model = tiny_model(vocab_size=97, hidden_size=64, kv_lora_rank=32, moe_intermediate_size=32, v_head_dim=16)
    model.requires_grad_(False)
    plan = make_plan(model, dict.fromkeys((Role.EXPERTS, Role.LINEAR, Role.EMBEDDINGS), Precision.Q4_0))
    generator = torch.Generator().manual_seed(0)
    ones = torch.ones(4, 32, dtype=torch.long)
    said = CalibrationBatch(ones * 5, ones, ones.bool())
    other = CalibrationBatch(torch.randint(97, (4, 32), generator=generator), ones, ones.bool())
    plain = rounded(model, plan)
    made = calibrate(model, [said], plan, damping=1e-6, expert_tokens=1, check=[other])
    for name, facts in made.errors.items():
        assert facts.error <= facts.error_rounded, name
    down = "model.layers.1.mlp.experts.down_proj.weight"
    same = (made.stored[down].stored == plain[down].stored).flatten(1).all(1)
    assert same.any()
    assert made.errors[down].rounded == int(same.sum())


def test_conversations_are_calibrated_on_where_there_are_any(tmp_path: Path) -> None:
    """In half of the rows of tasks, each conversation a document of its own."""
    talk = {"messages": [{"role": "user", "content": "cat"}, {"role": "assistant", "content": "dog"}] * 2}
    (tmp_path / "train.jsonl").write_text(f"{json.dumps(talk)}\n" * 40)
    made = shared_artifacts() | {"conversations": tmp_path}
    tokenizer = read_tokenizer(made["tokenizer"])
    rows = conversation_rows(tmp_path / "train.jsonl", tokenizer, 48, 3, 0)
    assert rows.tokens_BT.shape == (3, 48)
    words = tokenizer.decode(rows.tokens_BT[0][rows.documents_BT[0] == rows.documents_BT[0, 0]].tolist())
    assert words.split().count("dog") <= 2
    fit, check = _calibration_rows(QuantizeConfig(calibration_sequences=8), made, tokenizer)
    assert [sum(len(batch.tokens_BT) for batch in part) for part in (fit, check)] == [8, 3]  # one of each kind
    seen = torch.cat([batch.tokens_BT for batch in fit])
    assert any(torch.equal(row, ours) for row in seen for ours in rows.tokens_BT)
