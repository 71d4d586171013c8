"""llmcompressor in a Python of its own: what goes to it, what is said when it is not there, and what it makes."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch

from infra.errors import UserError
from model.architecture.checkpoint import load_model, save_model, to_hf_names
from model.architecture.config import Family
from model.evaluation.evaluate import evaluate
from model.evaluation.sections import EvaluateConfig
from model.release.compressed import groups, linear_bits, load_compressed, write_compressed
from model.release.compressor import PYTHON, check_compressor, documents
from model.release.export import export
from model.release.quantize import quantize
from model.release.quantized import load_quantized, make_plan, save_quantized
from model.release.rounding import rounded
from model.release.rows import CalibrationBatch
from model.release.units import Role
from model.sections import ExportConfig, Precision
from tests.model.artifacts import shared_artifacts
from tests.model.conftest import tiny_model
from tests.model.release.test_stages import CONFIG
from tests.pipeline.corpus import published

WIDE = {"kv_lora_rank": 32, "moe_intermediate_size": 32, "v_head_dim": 16, "intermediate_size": 64}
MIXED = {Role.EXPERTS: Precision.Q4_0, Role.LINEAR: Precision.Q8_0, Role.EMBEDDINGS: Precision.Q8_0}


def test_rows_go_as_documents_without_padding() -> None:
    tokens = torch.tensor([[5, 6, 7, 8, 9, 0], [1, 2, 3, 4, 5, 6]])
    places = torch.tensor([[0, 0, 1, 1, 1, 1], [4, 4, 4, 4, 4, 4]])
    valid = torch.tensor([[True] * 5 + [False], [True] * 6])
    assert list(documents([CalibrationBatch(tokens, places, valid)])) == [[5, 6], [7, 8, 9], [1, 2, 3, 4, 5, 6]]


def test_the_targets_of_a_group_are_its_modules_and_no_other() -> None:
    """Layers that have other bits than their neighbours, as a budget of bits makes them."""
    model = tiny_model(Family.DEEPSEEK_V3, **WIDE)
    plan = make_plan(model, MIXED)
    plan["model.layers.1.self_attn.q_proj.weight"] = Precision.Q4_0
    plan["model.layers.2.mlp.experts.up_proj.weight"] = Precision.Q8_0
    bits = linear_bits(model, plan)
    assert {bits["model.layers.2.mlp.experts.5.up_proj"], bits["model.layers.1.mlp.experts.5.up_proj"]} == {4, 8}
    for group in groups(bits).values():
        targets = [target.removeprefix("re:") for target in group["targets"]]
        found = {module for module in bits if any(re.match(target, module) for target in targets)}
        assert found == {module for module, each in bits.items() if each == group["weights"]["num_bits"]}
        assert len(targets) < len(found)  # experts are named together


@pytest.mark.parametrize("family", [Family.DEEPSEEK_V3, Family.LLAMA])
def test_our_own_checkpoint_reads_back(family: Family, tmp_path: Path) -> None:
    widths = WIDE if family is Family.DEEPSEEK_V3 else {"intermediate_size": 64}
    model = tiny_model(family, **widths)
    save_model(model, tmp_path / "checkpoint", None)
    save_quantized(tmp_path / "int4", rounded(model, make_plan(model, MIXED)), tmp_path / "checkpoint")
    write_compressed(tmp_path / "int4", tmp_path / "packed")
    wanted = to_hf_names(load_quantized(tmp_path / "int4").state_dict())
    for name, weight in to_hf_names(load_compressed(tmp_path / "packed").state_dict()).items():
        kept = "embed_tokens" in name or "lm_head" in name or "kv_b_proj" in name
        assert torch.equal(weight, wanted[name].half().float() if kept else wanted[name]), name
    (tmp_path / "packed" / "model.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(UserError, match=r"model\.safetensors: not readable"):
        load_compressed(tmp_path / "packed")


def test_what_is_missing_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tiny_model(Family.DEEPSEEK_V3), tmp_path / "v3", None)
    save_model(tiny_model(Family.DEEPSEEK), tmp_path / "v1", None)
    monkeypatch.delenv(PYTHON, raising=False)
    with pytest.raises(UserError, match=rf"{PYTHON} names no Python.*pip install llmcompressor==0\.14\.0\.1"):
        check_compressor("0.14.0.1", tmp_path / "v3")
    monkeypatch.setenv(PYTHON, "/no/such/python")
    with pytest.raises(UserError, match=r"=/no/such/python: no such program"):
        check_compressor("0.14.0.1", tmp_path / "v3")
    monkeypatch.setenv(PYTHON, sys.executable)
    with pytest.raises(UserError, match=r"llmcompressor is not there \(.*No package metadata.*llmcompressor\)"):
        check_compressor("0.14.0.1", tmp_path / "v3")
    with pytest.raises(UserError, match="no class for model_type deepseek"):
        check_compressor("0.14.0.1", tmp_path / "v1")


@pytest.mark.skipif(not os.environ.get(PYTHON), reason=f"{PYTHON} names no Python that has llmcompressor")
def test_it_quantizes_is_judged_and_exported(tmp_path: Path) -> None:
    made = shared_artifacts()
    made["model"] = made["grpo"]
    with pytest.raises(UserError, match=r"it has llmcompressor \d.*asks for 0\.0\.1; install that one or set"):
        check_compressor("0.0.1", made["grpo"] / "model")
    version = os.environ.get(f"{PYTHON}_VERSION", "0.14.0.1")
    config = CONFIG.model_copy(update={"calibration_sequences": 8, "llmcompressor": version})
    for name in ("evaluate", "quantize", "again", "export"):
        made[name] = tmp_path / name
        made[name].mkdir()
    quantize(config, made, made["quantize"])
    quantize(config, made, made["again"])
    assert published(made["again"]) == published(made["quantize"])
    report = json.loads((made["quantize"] / "quantization.json").read_text())
    theirs, ours = report["llmcompressor"], report["precisions"]["int4"]
    assert theirs["version"] == version
    assert ours["kl"] / 4 < theirs["kl"] < 4 * ours["kl"]
    assert set(theirs["kl_by_source"]) == {"book", "wiki"}
    assert theirs["bytes"] == (made["quantize"] / "llmcompressor" / "model.safetensors").stat().st_size
    # what is not quantized is the model's, and what is lies near it
    whole = to_hf_names(load_model(made["grpo"] / "model").state_dict())
    found = to_hf_names(load_compressed(made["quantize"] / "llmcompressor").state_dict())
    assert torch.equal(found["model.layers.1.mlp.gate.weight"], whole["model.layers.1.mlp.gate.weight"])
    for name in ("model.layers.1.mlp.experts.3.up_proj.weight", "model.layers.0.self_attn.o_proj.weight"):
        assert 0.01 < float((found[name] - whole[name]).norm() / whole[name].norm()) < 0.2
    evaluate(EvaluateConfig(problems=4, max_new_tokens=4, sequences=2), made, made["evaluate"])
    export(ExportConfig(gguf=False), made, made["export"])
    assert f"llmcompressor {version}" in (made["export"] / "MODEL_CARD.md").read_text()
    assert (made["export"] / "llmcompressor" / "tokenizer.json").exists()
