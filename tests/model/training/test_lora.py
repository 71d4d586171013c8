"""Low-rank adapters: what they compute, peft's reading of their files, held weights, and the stage that trains them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from infra.errors import UserError
from infra.execution import ENVIRONMENT_KEY
from model.architecture.checkpoint import save_model
from model.architecture.config import Family
from model.architecture.transformer import Transformer
from model.finetune_sections import Held, LoraConfig, LoraTarget, SftConfig
from model.training.adapted import HeldWeight
from model.training.lora import Adapters, adapt
from model.training.sft import sft
from tests.model.artifacts import is_start_with_adapter, shared_artifacts
from tests.model.conftest import tiny_model
from tests.pipeline.corpus import published

TOKENS = torch.randint(0, 97, (2, 9), generator=torch.Generator().manual_seed(3))
CONFIG = LoraConfig(rank=4, alpha=6.0)


def _wide(family: Family = Family.DEEPSEEK_V3) -> Transformer:
    """Every row of weights has a multiple of 32, so that all can be held in codes."""
    sizes = {"kv_lora_rank": 32, "v_head_dim": 16, "moe_intermediate_size": 32, "intermediate_size": 64}
    return tiny_model(family, **sizes)


def _learned(model: Transformer, config: LoraConfig = CONFIG) -> Adapters:
    """Adapters that have an effect, as after training."""
    adapters = adapt(model, config, seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            value.data.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    return adapters


def _plain(weights: dict[str, Tensor], adapter: Path) -> dict[str, Tensor]:
    """What the files say, by the formula of the paper, expert by expert."""
    found = load_file(adapter / "adapter_model.safetensors")
    said = json.loads((adapter / "adapter_config.json").read_text())
    scale = said["lora_alpha"] / said["r"]
    added = dict(weights)
    for name, weight in weights.items():
        place = f"base_model.model.{name.removesuffix('.weight')}"
        if name.endswith("experts.gate_up_proj"):
            place = f"base_model.model.{name.removesuffix('.gate_up_proj')}.base_layer"
        elif name.endswith("experts.down_proj"):
            place = f"base_model.model.{name.removesuffix('.down_proj')}"
        if f"{place}.lora_A.weight" not in found:
            continue
        a, b = found[f"{place}.lora_A.weight"], found[f"{place}.lora_B.weight"]
        if weight.dim() == 2:
            added[name] = weight + scale * b @ a
            continue
        rank, experts = said["r"], len(weight)
        added[name] = torch.stack(
            [weight[e] + scale * b[:, e::experts] @ a[e * rank : (e + 1) * rank] for e in range(experts)]
        )
    return added


@pytest.mark.parametrize("family", list(Family))
def test_it_computes_what_its_files_say(family: Family, tmp_path: Path) -> None:
    model = _wide(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        unadapted = model(TOKENS)
        adapters = adapt(model, CONFIG, seed=0)
        assert torch.equal(model(TOKENS), unadapted), "an adapter begins without an effect"
        adapters = _learned(_wide(family))
        found = adapters.model(TOKENS)
    adapters.write(tmp_path)
    expected = _wide(family)
    expected.load_state_dict(_plain(before, tmp_path))
    with torch.no_grad():
        torch.testing.assert_close(found, expected(TOKENS), atol=1e-4, rtol=1e-4)
        assert not torch.allclose(found, unadapted, atol=1e-2)
    adapters.merge()
    assert type(adapters.model) is Transformer
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(adapters.model.state_dict()[name], value, atol=1e-5, rtol=1e-5, msg=name)
    again = _wide(family)
    more = adapt(again, CONFIG.model_copy(update={"adapter": (str(tmp_path),)}), seed=9)
    more.merge()
    with torch.no_grad():
        torch.testing.assert_close(again(TOKENS), found, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", [Family.DEEPSEEK_V3, Family.LLAMA])
def test_peft_reads_it(family: Family, tmp_path: Path) -> None:
    """peft over transformers' class with our checkpoint says what we say, and merges to the same weights."""
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    save_model(_wide(family), tmp_path / "base", None)
    adapters = _learned(_wide(family))
    adapters.write(tmp_path / "adapter")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs(TOKENS).logits, adapters.model(TOKENS), atol=1e-4, rtol=1e-3)
        merged = theirs.merge_and_unload()
        torch.testing.assert_close(merged(TOKENS).logits, adapters.model(TOKENS), atol=1e-4, rtol=1e-3)


def test_we_read_pefts(tmp_path: Path) -> None:
    """An adapter that peft made, of attention and experts, goes on here."""
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    save_model(_wide(), tmp_path / "base", None)
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    settings = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=r".*self_attn\.(q_proj|kv_a_proj_with_mqa|kv_b_proj|o_proj)",
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = peft.get_peft_model(base, settings).eval()
    for name, value in theirs.named_parameters():
        if "lora_B" in name:
            value.data.normal_(std=0.1)
    theirs.save_pretrained(tmp_path / "adapter")
    model = _wide()
    targets = (LoraTarget.ATTENTION, LoraTarget.EXPERTS)
    adapt(model, CONFIG.model_copy(update={"targets": targets, "adapter": (str(tmp_path / "adapter"),)}), seed=0)
    with torch.no_grad():
        torch.testing.assert_close(model(TOKENS), theirs(TOKENS).logits, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("held", "bytes_per_weight", "most"), [(Held.Q8_0, 1.0625, 0.01), (Held.Q4_0, 0.5625, 0.13)])
def test_weights_held_in_codes(held: Held, bytes_per_weight: float, most: float) -> None:
    """They are near the weights, as small as promised, and gradients go through them as through what they say."""
    from model.architecture.grid import Grid, dequantize, round_to_nearest

    weight = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    kept = HeldWeight(weight, held)
    size = sum(value.numel() * value.element_size() for value in kept.buffers())
    assert size == weight.numel() * bytes_per_weight
    assert (kept() - weight).abs().max() < most * weight.abs().max()
    assert torch.equal(kept(), dequantize(*round_to_nearest(weight, Grid(held.value))))
    model = _wide()
    _learned(model, CONFIG.model_copy(update={"held": held}))
    plain = _wide()
    _learned(plain, CONFIG.model_copy(update={"held": held})).merge()
    for each in (model, plain):
        each(TOKENS).logsumexp(-1).sum().backward()
    with torch.no_grad():
        torch.testing.assert_close(model(TOKENS), plain(TOKENS), atol=1e-4, rtol=1e-4)
    wanted = plain.get_submodule("model.layers.1.self_attn.q_proj").weight.grad
    adapted = model.get_submodule("model.layers.1.self_attn.q_proj")
    torch.testing.assert_close(adapted.lora_B.grad, wanted @ adapted.lora_A.T * adapted.scale, atol=1e-3, rtol=1e-3)
    experts = model.get_submodule("model.layers.1.mlp.experts")
    whole = plain.get_submodule("model.layers.1.mlp.experts").down_proj.grad
    rank = CONFIG.rank
    a_0, b_0 = experts.lora_A["down_proj"][:rank], experts.lora_B["down_proj"].grad[:, :: len(whole)]
    torch.testing.assert_close(b_0, whole[0] @ a_0.T * experts.scale, atol=1e-3, rtol=1e-3)


def _config(**changes: Any) -> SftConfig:
    fields: dict[str, Any] = {
        "steps": 6, "batch_size": 4, "sequence_length": 64, "learning_rate": 5e-3, "accuracy_tasks": 4,
        "max_new_tokens": 12, "validation_sequences": 4, "lora": {"rank": 4}, "replay": {"text": 0.0},
    }  # fmt: skip
    return SftConfig.model_validate(fields | changes)


def _inputs() -> dict[str, Path]:
    made = shared_artifacts()
    return {name: made[name] for name in ("tokenizer", "reasoning")} | {"start": made["pretrain"]}


RUNNING = """
import itertools, json, os, signal, sys
from pathlib import Path
import torch
from model.finetune_sections import SftConfig
from model.training.engine import SingleEngine
from model.training.sft import sft
torch.set_num_threads(1)
whole, steps = SingleEngine.step, itertools.count()
def step(engine, rate):
    if next(steps) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(engine, rate)
SingleEngine.step = step
config, inputs = json.loads(sys.argv[1])
sft(SftConfig.model_validate(config), {name: Path(path) for name, path in inputs.items()}, Path(sys.argv[2]))
"""


@pytest.mark.parametrize("held", list(Held))
def test_the_stage_and_a_run_that_was_killed(held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The artifact's model is its start with its adapter; a killed run ends with the same bytes, and what it goes on
    from holds the adapters alone."""
    monkeypatch.setenv(ENVIRONMENT_KEY, json.dumps({"checkpoints": {"seconds": 0}}))
    inputs, config = _inputs(), _config(lora={"rank": 4, "held": held})
    found = sft(config, inputs, tmp_path / "whole")
    assert found.trained_parameters is not None
    assert 0 < (found.trained_parameters_share or 0) < 0.9
    measured = json.loads((tmp_path / "whole" / "history.json").read_text())["validation"]
    assert measured[-1]["loss"] < measured[0]["loss"]
    told = [config.model_dump(mode="json"), {name: str(path) for name, path in inputs.items()}]
    dying = [sys.executable, "-c", RUNNING, json.dumps(told), str(tmp_path / "killed")]
    if held is not Held.Q8_0:  # a process is dear, and the two codes are one code
        assert subprocess.run(dying, check=False).returncode == -signal.SIGKILL
        files = list((tmp_path / "killed" / ".work").rglob("rank-*.safetensors"))
        weights = {name for file in files for name in load_file(file) if name.startswith("weight/")}
        assert weights
        assert all(".lora_" in name for name in weights)
        sft(config, inputs, tmp_path / "killed")
        assert published(tmp_path / "killed") == published(tmp_path / "whole")
    assert is_start_with_adapter(tmp_path / "whole", inputs["start"], {"rank": 4, "held": held}) == (
        found.trained_parameters
    )


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="exclude each other"):
        _config(trained="experts")
    with pytest.raises(UserError, match=r"lora.targets: the model has no experts to adapt"):
        adapt(tiny_model(Family.LLAMA), LoraConfig(targets=(LoraTarget.EXPERTS,)), 0)
    with pytest.raises(UserError, match="not an adapter's configuration"):
        adapt(_wide(), LoraConfig(adapter=(str(tmp_path),)), 0)
    _learned(_wide()).write(tmp_path / "made")

    def start(name: str, **changes: Any) -> None:
        adapt(_wide(), CONFIG.model_copy(update={"adapter": (str(tmp_path / name),)} | changes), 0)

    with pytest.raises(UserError, match="its rank is 4 and its alpha 6; set"):
        start("made", rank=8)
    with pytest.raises(UserError, match=r"nothing here takes .*lora"):
        start("made", targets=(LoraTarget.ATTENTION,))
    shutil.copytree(tmp_path / "made", tmp_path / "cut")
    weights = load_file(tmp_path / "cut" / "adapter_model.safetensors")
    weights.popitem()
    save_file(weights, tmp_path / "cut" / "adapter_model.safetensors")
    with pytest.raises(UserError, match="is absent, the model wants"):
        start("cut")
    (tmp_path / "cut" / "adapter_model.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="not a readable adapter"):
        start("cut")
