"""What a real vLLM (its CPU build) makes of `hf/`, `compressed/` and `w8a8/`, against our model and transformers."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from model.architecture.checkpoint import load_model, save_model
from model.architecture.config import Family
from model.architecture.transformer import Transformer
from model.release.activations import int8_activations, write_w8a8
from model.release.compressed import load_compressed, write_compressed
from model.release.quantized import Plan, make_plan, save_quantized
from model.release.rounding import rounded
from model.release.units import Role
from model.release.vllm_config import write_config
from model.sections import Precision
from tests.model.conftest import tiny_model
from tests.model.serving.talker import save_tokenizer, words

VLLM = os.environ.get("DEEPMILL_VLLM")
pytestmark = [
    pytest.mark.drill,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not VLLM, reason="DEEPMILL_VLLM names no vLLM"),
]
JOB = Path(__file__).with_name("vllm_job.py")
WIDE = {"hidden_size": 64, "kv_lora_rank": 32, "qk_nope_head_dim": 32, "qk_rope_head_dim": 32, "v_head_dim": 32}
WIDE |= {"moe_intermediate_size": 32, "intermediate_size": 64, "initializer_range": 0.1}
LATENT = {"kv_lora_rank": 512, "qk_nope_head_dim": 64, "qk_rope_head_dim": 64, "v_head_dim": 64}
"""Of the width that vLLM has kernels for."""
YARN = {"factor": 8.0, "original_max_position_embeddings": 16, "mscale": 1.0, "mscale_all_dim": 1.0}
MODELS = {
    "v3": (Family.DEEPSEEK_V3, {}),
    "v3 with q_lora": (Family.DEEPSEEK_V3, {"q_lora_rank": 32}),
    "v3 in groups": (Family.DEEPSEEK_V3, {"n_group": 4, "topk_group": 2}),
    "v3 as wide as DeepSeek's": (Family.DEEPSEEK_V3, LATENT),
    "softmax gate": (Family.DEEPSEEK_V2, {"q_lora_rank": 32, "routed_scaling_factor": 2.5}),
    "v3 with YaRN and MTP": (Family.DEEPSEEK_V3, LATENT | {"rope_scaling": YARN, "num_nextn_predict_layers": 1}),
    "v1": (Family.DEEPSEEK, {"hidden_size": 128}),
    "dense": (Family.LLAMA, {"hidden_size": 128}),
}
QUANTIZED = ("v3", "v3 with q_lora", "v1", "dense")
ALL = (Role.EXPERTS, Role.LINEAR, Role.EMBEDDINGS)
FOUR = dict.fromkeys(ALL, Precision.Q4_0)
MIXED = dict.fromkeys(ALL, Precision.Q8_0) | {Role.EXPERTS: Precision.Q4_0}
PROMPTS = [torch.randint(7, 300, (length,), generator=torch.Generator().manual_seed(length)) for length in (20, 33)]


def plans(model: Transformer) -> dict[str, Plan]:
    """The layouts of `compressed/`: 4 bits, experts 4 and the rest 8, and other bits within layers that are joined."""
    odd = make_plan(model, FOUR)
    for part in ("1.mlp.up_proj", "0.self_attn.k_proj", "1.mlp.experts.up_proj", "1.mlp.shared_experts.gate_proj"):
        odd |= {name: Precision.Q8_0 for name in odd if f"layers.{part}." in name}
    return {"4 bits": make_plan(model, FOUR), "mixed": make_plan(model, MIXED), "by matrix": odd}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All checkpoints, by model and layout."""
    root, found = tmp_path_factory.mktemp("layouts"), {}
    for name, (family, changes) in MODELS.items():
        model = tiny_model(family, **(WIDE | changes | {"vocab_size": words().get_vocab_size()})).requires_grad_(False)
        made = root / name
        found[f"{name}: hf"] = made / "hf"
        save_model(model, made / "hf", save_tokenizer(made / "tokenizer"))
        if name not in QUANTIZED:
            continue
        for layout, plan in plans(model).items():
            save_quantized(made / f"stored {layout}", rounded(model, plan), made / "hf")
            found[f"{name}: {layout}"] = made / layout
            write_compressed(made / f"stored {layout}", made / layout)
        found[f"{name}: w8a8"] = made / "w8a8"
        write_w8a8(model, made / "hf", made / "w8a8")
    for folder in found.values():
        write_config(folder)
    return found


@pytest.fixture(scope="module")
def answers(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Greedy tokens and log probabilities, or what vLLM said against a checkpoint."""
    assert VLLM is not None
    python = VLLM if Path(VLLM).name.startswith("python") else str(Path(VLLM).with_name("python"))
    models = {name: {"folder": str(path), "dtype": "float32", "plain": True} for name, path in folders.items()}
    models["its own kernel"] = models["dense: 4 bits"] | {"dtype": "float16", "plain": False}
    out = tmp_path_factory.mktemp("answers") / "answers.json"
    job = {"models": models, "prompts": [prompt.tolist() for prompt in PROMPTS], "new_tokens": 16, "out": str(out)}
    quiet = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    done = subprocess.run(
        [python, str(JOB)], input=json.dumps(job), env=os.environ | quiet, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(out.read_text())


def differences(model: Transformer, told: Any) -> tuple[Tensor, bool]:
    """Of the log probabilities, by position; and whether the same tokens were written."""
    assert not isinstance(told, str), told
    found, same = [], True
    for prompt, answer in zip(PROMPTS, told, strict=True):
        tokens_1T = torch.cat([prompt, torch.tensor(answer["tokens"])])[None]
        ours_TV = model.lm_head(model.hidden(tokens_1T))[0, :-1].log_softmax(-1)
        found.append((ours_TV - torch.tensor(answer["log_probabilities"])).abs().amax(-1))
        same &= ours_TV[len(prompt) - 1 :].argmax(-1).tolist() == answer["tokens"]
    return torch.cat(found), same


@pytest.mark.parametrize("name", MODELS)
def test_full_precision(name: str, folders: dict[str, Path], answers: dict[str, Any]) -> None:
    difference_T, same = differences(load_model(folders[f"{name}: hf"]).requires_grad_(False), answers[f"{name}: hf"])
    assert same
    assert difference_T.amax() < 2e-5
    if name == "v1":  # which transformers does not know
        return
    theirs = AutoModelForCausalLM.from_pretrained(folders[f"{name}: hf"], dtype=torch.float32).eval()
    with torch.no_grad():
        logits_TV = theirs(PROMPTS[0][None]).logits[0].log_softmax(-1)
    told_TV = torch.tensor(answers[f"{name}: hf"][0]["log_probabilities"])[: len(PROMPTS[0])]
    assert (logits_TV - told_TV).abs().amax() < 2e-5


@pytest.mark.parametrize("name", QUANTIZED)
@pytest.mark.parametrize("layout", ["4 bits", "mixed", "by matrix"])
def test_the_packed_layouts(name: str, layout: str, folders: dict[str, Path], answers: dict[str, Any]) -> None:
    difference_T, same = differences(load_compressed(folders[f"{name}: {layout}"]), answers[f"{name}: {layout}"])
    assert same
    assert difference_T.amax() < 2e-5


def test_four_bits_by_its_own_kernel(folders: dict[str, Path], answers: dict[str, Any]) -> None:
    """In 16 bits, which is what the kernel computes in."""
    difference_T, same = differences(load_compressed(folders["dense: 4 bits"]), answers["its own kernel"])
    assert same
    assert difference_T.amax() < 0.05


@pytest.mark.parametrize("name", QUANTIZED)
def test_eight_bit_activations(name: str, folders: dict[str, Path], answers: dict[str, Any]) -> None:
    """Most numbers to the last digit; a few inputs lie between two steps and are rounded to the other one."""
    model = load_model(folders[f"{name}: hf"]).requires_grad_(False)
    for part, weight in model.named_parameters():
        if part.endswith(("embed_tokens.weight", "lm_head.weight", "kv_b_proj.weight")):  # stored in 16 bits there
            weight.copy_(weight.half())
    exact_T, _ = differences(model, answers[f"{name}: w8a8"])
    with int8_activations(model):
        difference_T, _ = differences(model, answers[f"{name}: w8a8"])
    assert difference_T.median() < exact_T.median() / 4
