"""Pruned experts: scores against a loop over tokens, the pruned model against the whole one with gates masked."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM

from flows.recipe.plan import identity_config
from flows.recipe.recipe import load_recipe
from infra.digests import DigestCache
from infra.errors import UserError
from model.architecture.checkpoint import load_config, load_model, save_model
from model.architecture.config import Family, ModelConfig
from model.architecture.moe import Gate, MixtureOfExperts
from model.architecture.transformer import Transformer
from model.evaluation.evaluate import evaluate, evaluate_release
from model.evaluation.sections import EvaluateConfig, EvaluateReleaseConfig
from model.facts.evaluation import RELEASE, read_evaluation
from model.release.export import export
from model.release.footprint import model_files, read_device_file
from model.release.prune import Usage, usage, without, worth_keeping
from model.release.pruned import write_pruned
from model.release.quality import Judge
from model.release.quantize import _calibration_rows, quantize
from model.release.quantized import load_quantized
from model.release.rows import CalibrationBatch
from model.sections import ExportConfig, PruneBy, PruneConfig, QuantizeConfig, ServedPrecision
from pipeline.tokens.chat import read_tokenizer
from tests.model.artifacts import shared_artifacts
from tests.model.conftest import tiny_config, tiny_model
from tests.pipeline.corpus import published

FAMILIES = [Family.DEEPSEEK, Family.DEEPSEEK_V2, Family.DEEPSEEK_V3]


ASKED: dict[str, Any] = {"problems": 2, "max_new_tokens": 2, "sequences": 2}


def _rows(vocabulary: int = 97) -> CalibrationBatch:
    """Two rows of two documents; the last tokens are padding."""
    tokens_BT = torch.randint(vocabulary, (2, 12), generator=torch.Generator().manual_seed(1))
    documents_BT = torch.arange(12).ge(5).long().expand(2, -1)
    return CalibrationBatch(tokens_BT, documents_BT, torch.arange(12).lt(10).expand(2, -1))


@torch.no_grad()
def _reference(model: Transformer, batch: CalibrationBatch) -> dict[int, dict[int, list[tuple[float, float]]]]:
    """Gate and size of the output, by layer and expert, of every token that is no padding: one token at a time."""
    inputs: dict[int, Tensor] = {}
    layers = model.config.moe_layers
    for layer in layers:
        model.get_submodule(f"model.layers.{layer}.mlp").register_forward_pre_hook(
            lambda module, args, layer=layer: inputs.update({layer: args[0]})
        )
    model.hidden(batch.tokens_BT, batch.documents_BT)
    found: dict[int, dict[int, list[tuple[float, float]]]] = {layer: {} for layer in layers}
    for layer in layers:
        moe = model.get_submodule(f"model.layers.{layer}.mlp")
        assert isinstance(moe, MixtureOfExperts)
        for x_D in inputs[layer][batch.valid_BT]:
            gates_1K, experts_1K = moe.gate(x_D[None])
            for gate, expert in zip(gates_1K[0].tolist(), experts_1K[0].tolist(), strict=True):
                wide, up = (moe.experts.gate_up_proj[expert] @ x_D).chunk(2)
                size = (moe.experts.down_proj[expert] @ (F.silu(wide) * up)).norm().item()
                found[layer].setdefault(expert, []).append((gate, size))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_equal_a_loop_over_tokens(family: Family) -> None:
    model, batch = tiny_model(family), _rows()
    found, wanted = usage(model, [batch]), _reference(tiny_model(family), batch)
    assert found.keys() == wanted.keys()
    assert all(seen.tokens_E.sum() == 20 * model.config.num_experts_per_tok for seen in found.values())
    for layer, seen in found.items():
        for expert in range(model.config.n_routed_experts):
            tokens = wanted[layer].get(expert, [])
            count = max(1, len(tokens))
            assert seen.score(PruneBy.FREQUENCY)[expert] == len(tokens)
            norm, reap = (sum(values) / count for values in ([s for _, s in tokens], [g * s for g, s in tokens]))
            assert seen.score(PruneBy.NORM)[expert].item() == pytest.approx(norm, rel=1e-5)
            assert seen.score(PruneBy.REAP)[expert].item() == pytest.approx(reap, rel=1e-5)
    assert sum(map(len, wanted[1].values())) == 60


def test_batches_add_up_and_hooks_are_gone() -> None:
    model, batch = tiny_model(), _rows()
    once, twice = usage(model, [batch])[1], usage(model, [batch, batch])[1]
    for name in Usage.__dataclass_fields__:
        torch.testing.assert_close(getattr(twice, name), 2 * getattr(once, name))
    assert not any(module._forward_pre_hooks for module in model.modules())


def _masked(model: Transformer, kept: dict[int, Tensor]) -> Transformer:
    """The whole model whose gates cannot choose what is gone: its logit and its selection bias are minus infinity."""
    masked = copy.deepcopy(model)
    for layer, numbers in kept.items():
        gate = masked.get_submodule(f"model.layers.{layer}.mlp.gate")
        assert isinstance(gate, Gate)
        gone_E = torch.ones(model.config.n_routed_experts, dtype=torch.bool)
        gone_E[numbers] = False

        def scores(x_TD: Tensor, gate: Gate = gate, gone_E: Tensor = gone_E) -> Tensor:
            logits_TE = (x_TD @ gate.weight.t()).masked_fill(gone_E, float("-inf"))
            return logits_TE.sigmoid() if gate.is_sigmoid else logits_TE.softmax(-1)

        gate.scores = scores  # type: ignore[method-assign]
        if gate.is_sigmoid:
            gate.e_score_correction_bias[gone_E] = float("-inf")
    return masked


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_pruned_model_is_the_whole_one_with_its_gates_masked(family: Family, groups: int) -> None:
    model, batch = tiny_model(family, n_group=groups, topk_group=1), _rows()
    config = PruneConfig(share=0.25).architecture(model.config)
    assert config.n_routed_experts == 6
    scores = usage(model, [batch])
    kept = {layer: worth_keeping(seen.score(PruneBy.REAP), 6, groups) for layer, seen in scores.items()}
    pruned = without(model, config, kept)
    found = pruned.lm_head(pruned.hidden(batch.tokens_BT))
    masked = _masked(model, kept)
    torch.testing.assert_close(found, masked.lm_head(masked.hidden(batch.tokens_BT)), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found, model.lm_head(model.hidden(batch.tokens_BT)), atol=1e-3)


def test_the_lowest_go_of_every_group_and_equals_from_the_end() -> None:
    scores_E = torch.tensor([5.0, 1.0, 1.0, 9.0, 8.0, 7.0, 6.0, 6.0])
    assert worth_keeping(scores_E, 6).tolist() == [0, 3, 4, 5, 6, 7]
    assert worth_keeping(scores_E, 6, 2).tolist() == [0, 1, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("changes", "share", "told"),
    [
        ({}, 0.95, r"leaves 0 of 8 experts: Input should be greater than or equal to 1; set less$"),
        ({}, 0.75, r"leaves 2 of 8 experts: num_experts_per_tok exceeds n_routed_experts; set less$"),
        ({"n_group": 2, "topk_group": 1}, 0.5, r"leaves 4 of 8 experts: num_experts_per_tok exceeds the experts of"),
        ({}, 0.05, r"takes out none of 8 experts; set at least 0\.125$"),
        ({"model_type": Family.LLAMA}, 0.25, r"has no experts to take out; set quantize\.prune\.share to 0$"),
    ],
)
def test_what_cannot_be_pruned_is_refused_in_a_line(changes: dict[str, object], share: float, told: str) -> None:
    with pytest.raises(ValueError, match=told) as error:
        PruneConfig(share=share).architecture(ModelConfig.model_validate(tiny_config().model_dump() | changes))
    assert "\n" not in str(error.value)


def test_a_recipe_that_asks_for_it_is_refused_before_anything_is_made() -> None:
    with pytest.raises(
        UserError, match=r"^sample: .*quantize\.prune\.share 0\.9 leaves 1 of 8 experts: num_experts_per"
    ):
        load_recipe("sample", ["quantize.prune.share=0.9"])


def test_layers_of_multi_token_prediction_are_left_out() -> None:
    model = tiny_model(num_nextn_predict_layers=1)
    config = PruneConfig(share=0.25).architecture(model.config)
    kept = {layer: torch.arange(6) for layer in model.config.moe_layers}
    assert not [name for name in without(model, config, kept).state_dict() if name.startswith("model.layers.3.")]


def test_off_it_is_no_part_of_an_identity(tmp_path: Path) -> None:
    plain, pruned = (
        identity_config(QuantizeConfig(prune=PruneConfig(share=share)), DigestCache(tmp_path / "digests"), {})
        for share in (0, 0.25)
    )
    assert "prune" not in plain
    assert pruned["prune"]["share"] == 0.25


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = shared_artifacts()
    made |= {name: tmp_path_factory.mktemp(name) for name in ("evaluate", "quantize", "evaluate_release", "export")}
    made["model"] = made["grpo"]
    evaluate(EvaluateConfig(**ASKED), made, made["evaluate"])
    quantize(_config(), made, made["quantize"])
    evaluate_release(EvaluateReleaseConfig(**ASKED, precision=ServedPrecision.INT8), made, made["evaluate_release"])
    export(
        ExportConfig(title="Tiny", q4_k_m=False, precision=ServedPrecision.INT8),
        made,
        made["export"],
    )  # llama.cpp has computed with the files
    return made


def _config(**changes: object) -> QuantizeConfig:
    few = {"calibration_sequences": 8, "evaluation_sequences": 4, "accuracy_problems": 0, "expert_tokens": 8}
    prune = PruneConfig(share=0.25, heal_steps=8, heal_batch=8, heal_learning_rate=3e-4)
    return QuantizeConfig.model_validate(few | {"prune": prune} | changes)


def test_a_pruned_release_is_smaller_and_its_divergence_counts_what_is_gone(released: dict[str, Path]) -> None:
    report: Any = json.loads((released["quantize"] / "quantization.json").read_text())
    pruning = report["pruning"]
    assert (pruning["experts_before"], pruning["experts_after"]) == (8, 6)
    assert {len(numbers) for numbers in pruning["kept"].values()} == {6}
    sizes = {name: facts["bytes"] for name, facts in report["precisions"].items()}
    assert sizes["int4"] < sizes["int8"] < sizes["pruned"] < sizes["f32"]
    kls = {name: facts["kl"] for name, facts in report["precisions"].items()}
    assert 0 < kls["pruned"] < kls["int4"]
    assert pruning["healed"]
    assert kls["pruned"] < pruning["unhealed"]["kl"]
    config = load_config(released["quantize"] / "int4")
    assert (config.n_routed_experts, config.num_experts_per_tok) == (6, 3)
    assert load_quantized(released["quantize"] / "int8").config == config


def test_all_files_hold_the_pruned_model(released: dict[str, Path]) -> None:
    pruned = load_model(released["quantize"] / "checkpoint")
    theirs = AutoModelForCausalLM.from_pretrained(released["export"] / "hf", dtype=torch.float32).eval()
    assert theirs.config.n_routed_experts == 6
    tokens_BT = _rows().tokens_BT
    with torch.no_grad():
        found = pruned.lm_head(pruned.hidden(tokens_BT))
        torch.testing.assert_close(found, theirs(tokens_BT).logits, atol=1e-4, rtol=0)
    verified = json.loads((released["export"] / "export.json").read_text())["verified"]["llama.cpp"]
    assert verified["top1_equal"]
    assert verified["tokens_equal"]
    described = [json.loads(path.read_text()) for path in released["export"].rglob("config.json")]
    assert [config["n_routed_experts"] for config in described] == [6] * 3
    assert {config["num_experts_per_tok"] for config in described} == {3}
    files = [read_device_file(path) for path in model_files(released["export"] / "gguf")]
    assert {(file.precision, file.experts, file.spare) for file in files} == {
        (kind, 6, 2) for kind in ("f32", "q8_0", "q4_0")
    }
    card = (released["export"] / "MODEL_CARD.md").read_text()
    assert "Of the 8 routed experts of each layer 6 are left" in card
    assert "6 routed, 3 per token" in card


def test_what_is_served_is_evaluated_and_told_beside_the_checkpoints(released: dict[str, Path], tmp_path: Path) -> None:
    """As `evaluate` finds it of a checkpoint with the very weights that are served."""
    save_model(load_quantized(released["quantize"] / "int8"), tmp_path / "served" / "model", released["tokenizer"])
    (tmp_path / "found").mkdir()
    inputs = {name: released[name] for name in ("shards", "reasoning", "tokenizer", "decontaminate")}
    evaluate(EvaluateConfig(**ASKED), inputs | {"grpo": tmp_path / "served"}, tmp_path / "found")
    wanted, found = (read_evaluation(folder) for folder in (tmp_path / "found", released["evaluate_release"]))
    assert found.checkpoints == {RELEASE: wanted.checkpoints["grpo"]}
    assert found.samples == [sample.model_copy(update={"checkpoint": RELEASE}) for sample in wanted.samples]
    marks, whole = found.checkpoints[RELEASE], read_evaluation(released["evaluate"])
    assert marks.interval
    assert marks.bits_per_byte != whole.checkpoints["grpo"].bits_per_byte
    assert [name for name, _ in whole.with_release(found).ordered] == [*whole.order, RELEASE]
    bits = " | ".join(f"{value:.3f}" for _, value in sorted(marks.bits_per_byte.items()))
    accuracy = "{:.1%} ({:.1%} to {:.1%})".format(marks.accuracy, *marks.interval)
    card = (released["export"] / "MODEL_CARD.md").read_text()
    assert f"| {RELEASE} | {accuracy} | {bits} |" in card
    assert f"`{RELEASE}` is the int8 model that is served" in card


def test_healing_that_does_harm_is_not_kept(released: dict[str, Path], tmp_path: Path) -> None:
    wild = PruneConfig(share=0.25, heal_steps=2, heal_batch=2, heal_learning_rate=0.3)
    config = _config(prune=wild)
    model, words = load_model(released["model"] / "model").requires_grad_(False), read_tokenizer(released["tokenizer"])
    judge = Judge(config, model, released, words)
    small = wild.architecture(model.config)
    pruned, facts = write_pruned(config, model, small, released, words, [_rows()], judge, tmp_path)
    assert not facts.healed
    assert (facts.divergence_last or 0.0) > 2 * (facts.divergence_first or 1e9)
    assert judge.divergence(load_model(tmp_path / "checkpoint")) == facts.unhealed == judge.divergence(pruned)


def test_pruning_twice_gives_the_same_bytes(released: dict[str, Path], tmp_path: Path) -> None:
    config = _config()
    model, words = load_model(released["model"] / "model").requires_grad_(False), read_tokenizer(released["tokenizer"])
    rows, judge = _calibration_rows(config, released, words)[0], Judge(config, model, released, words)
    write_pruned(config, model, config.prune.architecture(model.config), released, words, rows, judge, tmp_path)
    assert published(tmp_path / "checkpoint") == published(released["quantize"] / "checkpoint")
