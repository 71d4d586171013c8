"""4 bits are 4 bits in every family, and two names never stand for one size."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flows.recipe.recipe import load_recipe
from infra.errors import UserError
from model.architecture.checkpoint import save_model
from model.architecture.config import Family
from model.release.allocate import BITS, allocate, bits_of
from model.release.quantize import quantize
from model.release.quantized import make_plan
from model.release.rows import CalibrationBatch, cut, text_rows
from model.release.units import Role, role_of, units
from model.sections import Precision, QuantizeConfig
from tests.model.artifacts import shared_artifacts
from tests.model.conftest import tiny_model

FEW = {"calibration_sequences": 4, "evaluation_sequences": 2, "accuracy_problems": 0}
WIDE = {"hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32, "kv_lora_rank": 32, "v_head_dim": 16}


def rows(count: int) -> list[CalibrationBatch]:
    return list(cut(text_rows(shared_artifacts()["shards"], "train", count, 0), 4))


@pytest.mark.parametrize("family", [Family.LLAMA, Family.DEEPSEEK_V3])
def test_four_bits_are_four_bits(family: Family) -> None:
    config = QuantizeConfig()
    model = tiny_model(family, **WIDE, qk_nope_head_dim=32)
    four = {Role.EXPERTS: config.experts, Role.LINEAR: config.linear, Role.EMBEDDINGS: config.embeddings}
    plan = make_plan(model, four)
    kinds = {plan[name] for name, weight in units(model).items() if role_of(name, weight) is not Role.KEPT}
    assert kinds == {Precision.Q4_0}
    assert bits_of(model, plan) == 4.5


def test_a_budget_counts_the_embeddings() -> None:
    model = tiny_model(Family.LLAMA, **WIDE, vocab_size=320).requires_grad_(False)
    plan = make_plan(model, dict.fromkeys((Role.EXPERTS, Role.LINEAR, Role.EMBEDDINGS), Precision.Q4_0))
    found = allocate(model, plan, 5.5, rows(4))
    assert {"lm_head.weight", "model.embed_tokens.weight"} <= found.keys()
    weights = {name: weight.numel() for name, weight in units(model).items() if plan[name] is not None}
    assert 4.5 < sum(BITS[plan[name]] * count for name, count in weights.items()) / sum(weights.values()) <= 5.5


@pytest.mark.parametrize(
    ("changes", "k_quants", "least"),
    [
        ({}, False, "4.50 bits per weight at least: set quantize.k_quants to true"),
        ({}, True, "4.50 bits per weight at least: rows of 32, 64 weights do not divide"),
        ({"hidden_size": 256, "num_key_value_heads": 4, "intermediate_size": 256}, True, "2.62 bits per weight at l"),
    ],
)
def test_a_budget_that_no_choice_keeps_to_is_refused(changes: dict[str, object], k_quants: bool, least: str) -> None:
    family = Family.LLAMA if changes else Family.DEEPSEEK_V3
    model = tiny_model(family, **(WIDE | {"intermediate_size": 64, "v_head_dim": 8} | changes), vocab_size=320)
    plan = make_plan(model, dict.fromkeys((Role.EXPERTS, Role.LINEAR, Role.EMBEDDINGS), Precision.Q4_0))
    with pytest.raises(UserError, match=re.escape(f"the matrices take {least}")) as told:
        allocate(model.requires_grad_(False), plan, 2.5, rows(4), k_quants=k_quants)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "settings",
    [["quantize.linear=q8_0", "pretrain.model.model_type=llama"], ["quantize.linear=f16", "quantize.experts=q8_0"]],
)
def test_two_precisions_of_one_size_are_refused_before_anything_is_made(settings: list[str]) -> None:
    with pytest.raises(UserError, match=r"^sample: quantize: every matrix .* two names for one size; set") as told:
        load_recipe("sample", settings)
    assert "\n" not in str(told.value)


def test_and_where_the_architecture_comes_from_a_checkpoint(tmp_path: Path) -> None:
    made = shared_artifacts() | {"model": tmp_path / "dense"}
    model = tiny_model(Family.LLAMA, **WIDE, vocab_size=320)
    save_model(model, made["model"] / "model", made["tokenizer"])
    message = "int4 would have 8.50 bits per weight in its matrices, and int8 8.50"
    with pytest.raises(UserError, match=re.escape(message)):
        quantize(QuantizeConfig(**FEW, linear=Precision.Q8_0), made, tmp_path)
    with pytest.raises(UserError, match=re.escape(message)):
        quantize(QuantizeConfig(**FEW, bits=8.5, sensitivity_sequences=1), made, tmp_path)
