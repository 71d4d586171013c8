"""W8A8: the checkpoint as their library reads it, and our rounded forward pass against plain arithmetic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from compressed_tensors.quantization import QuantizationConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from model.architecture.checkpoint import save_model, to_hf_names
from model.architecture.config import Family
from model.release.activations import int8_activations, round_rows, write_w8a8
from tests.model.conftest import tiny_model
from tests.model.serving.talker import save_tokenizer, words


def test_rows_are_rounded_to_the_nearest_of_255_steps() -> None:
    x = torch.tensor([[-2.0, 0.5, 1.0], [0.0, 0.0, 0.0], [1e-3, -4e-4, 0.0]])
    codes, scale = round_rows(x)
    assert codes.tolist() == [[-127, 32, 64], [0, 0, 0], [127, -51, 0]]
    assert (codes.float() * scale - x).abs().amax() <= float(scale[0, 0]) / 2


def test_a_linear_layer_sees_rounded_inputs_and_comes_back_whole() -> None:
    model = tiny_model(Family.DEEPSEEK_V3).requires_grad_(False)
    tokens_BT = torch.randint(7, 97, (2, 20), generator=torch.Generator().manual_seed(0))
    plain_BTD = model.hidden(tokens_BT)
    projection, seen = model.model.layers[1].self_attn.o_proj, []
    handle = projection.register_forward_hook(lambda module, args, out: seen.append((args[0], out)))
    with int8_activations(model):
        rounded_BTD = model.hidden(tokens_BT)
        weight = projection.weight.clone()
    handle.remove()
    (inputs, out), (codes, scale) = seen[0], round_rows(weight)
    torch.testing.assert_close(inputs, round_rows(inputs)[0].float() * round_rows(inputs)[1])
    torch.testing.assert_close(weight, codes.float() * scale)
    torch.testing.assert_close(out, inputs @ weight.T)
    change = float((rounded_BTD - plain_BTD).norm() / plain_BTD.norm())
    assert 1e-4 < change < 0.3  # a token may choose other experts
    assert torch.equal(model.hidden(tokens_BT), plain_BTD)


@pytest.mark.parametrize("family", [Family.DEEPSEEK_V3, Family.LLAMA])
def test_the_scheme_is_theirs_and_the_numbers_ours(family: Family, tmp_path: Path) -> None:
    model = tiny_model(family, vocab_size=words().get_vocab_size()).requires_grad_(False)
    save_model(model, tmp_path / "checkpoint", save_tokenizer(tmp_path / "tokenizer"))
    write_w8a8(model, tmp_path / "checkpoint", tmp_path / "w8a8")
    settings = json.loads((tmp_path / "w8a8" / "config.json").read_text())["quantization_config"]
    (group,) = QuantizationConfig.model_validate(settings).config_groups.values()
    assert group.input_activations is not None
    assert (group.input_activations.dynamic, group.input_activations.strategy) == (True, "token")
    tensors = load_file(tmp_path / "w8a8" / "model.safetensors")
    wanted, scaled = to_hf_names(model.state_dict()), 0
    for name, weight in wanted.items():
        scale = tensors.get(f"{name.removesuffix('.weight')}.weight_scale")
        if scale is not None:
            assert tensors[name].dtype is torch.int8
            assert float((tensors[name].float() * scale - weight).abs().amax()) <= float(scale.amax()) / 2 + 1e-7
            scaled += 1
    assert scaled >= (100 if family is Family.DEEPSEEK_V3 else 20) // 2


def test_transformers_computes_with_it(tmp_path: Path) -> None:
    model = tiny_model(Family.LLAMA, vocab_size=words().get_vocab_size()).requires_grad_(False)
    save_model(model, tmp_path / "checkpoint", save_tokenizer(tmp_path / "tokenizer"))
    write_w8a8(model, tmp_path / "checkpoint", tmp_path / "w8a8")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "w8a8", dtype=torch.float32).eval()
    for weight in (model.model.embed_tokens.weight, model.lm_head.weight):  # stored in 16 bits there
        weight.copy_(weight.half())
    tokens_BT = torch.randint(7, model.config.vocab_size, (2, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        exact = model.lm_head(model.hidden(tokens_BT))
        found = theirs(tokens_BT).logits
        with int8_activations(model):
            ours = model.lm_head(model.hidden(tokens_BT))
            for name, module in theirs.named_modules():
                if name.endswith("_proj"):
                    assert torch.equal(module.weight, model.get_submodule(name).weight), name
    # compressed-tensors scales activations by 127.5 where we and vLLM take 127: other roundings, of the same size
    harm, their_harm = (float((logits - exact).abs().mean()) for logits in (ours, found))
    assert 0.8 < their_harm / harm < 1.25
    assert float((found - ours).abs().mean()) < harm
