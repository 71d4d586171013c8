"""Weights as others store them: which files, which names, which types."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from infra.errors import UserError
from model.architecture.checkpoint import load_model, save_model
from model.architecture.config import Family
from model.architecture.first_look import look_at
from tests.model.conftest import tiny_model

Change = Callable[[dict[str, Tensor]], None]
EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
UP = "model.layers.0.mlp.up_proj.weight"


def stored(folder: Path, change: Change, family: Family = Family.LLAMA, **config: object) -> Path:
    """A checkpoint whose weights were changed."""
    save_model(tiny_model(family, **config), folder, None)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    return folder


def state(folder: Path, **how: bool) -> dict[str, Tensor]:
    return dict(load_model(folder, **how).state_dict())


def add_frequencies(weights: dict[str, Tensor]) -> None:
    weights["model.layers.1.self_attn.rotary_emb.inv_freq"] = torch.rand(4)


def halve(weights: dict[str, Tensor]) -> None:
    weights.update({name: weight.bfloat16() for name, weight in weights.items()})


def drop_prefix(weights: dict[str, Tensor]) -> None:
    for name in list(weights):
        weights[name.removeprefix("model.")] = weights.pop(name)


def head_alone(weights: dict[str, Tensor]) -> None:
    weights[OUTPUT] = weights.pop(EMBEDDING)


@pytest.mark.parametrize("change", [add_frequencies, halve, drop_prefix, head_alone])
def test_the_same_model_in_other_words(change: Change, tmp_path: Path) -> None:
    found = state(stored(tmp_path, change, tie_word_embeddings=True))
    for name, weight in tiny_model(Family.LLAMA, tie_word_embeddings=True).state_dict().items():
        wanted = weight.bfloat16().float() if change is halve else weight
        assert torch.equal(found[name], wanted), name


def test_without_an_output_layer_it_is_tied_where_nothing_is_said(tmp_path: Path) -> None:
    stored(tmp_path, add_frequencies, tie_word_embeddings=True)
    file = tmp_path / "config.json"
    said = json.loads(file.read_text())
    del said["tie_word_embeddings"]
    file.write_text(json.dumps(said))
    assert load_model(tmp_path).config.tie_word_embeddings
    file.write_text(json.dumps(said | {"tie_word_embeddings": False}))
    with pytest.raises(UserError, match=f"{OUTPUT} missing"):
        load_model(tmp_path)


def test_an_output_layer_of_its_own_unties(tmp_path: Path) -> None:
    def add_head(weights: dict[str, Tensor]) -> None:
        weights[OUTPUT] = weights[EMBEDDING] + 1

    model = load_model(stored(tmp_path, add_head, tie_word_embeddings=True))
    assert not model.config.tie_word_embeddings
    assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight + 1)


def test_the_index_says_which_files(tmp_path: Path) -> None:
    save_model(tiny_model(Family.LLAMA), tmp_path, None)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    parts = {"a.safetensors": list(weights)[::2], "b.safetensors": list(weights)[1::2]}
    for file, names in parts.items():
        save_file({name: weights[name] for name in names}, tmp_path / file)
    save_file({"tok_embeddings.weight": torch.zeros(2)}, tmp_path / "consolidated.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file, names in parts.items() for name in names}}))
    assert all(torch.equal(weight, state(tmp_path)[name]) for name, weight in weights.items())
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(UserError, match=r"index\.json: names b\.safetensors, which is not there"):
        load_model(tmp_path)
    index.write_text("{}")
    with pytest.raises(UserError, match=r"index\.json: has no weight_map"):
        load_model(tmp_path)


def test_layers_of_multi_token_prediction_are_those_that_are_there(tmp_path: Path) -> None:
    whole = tiny_model(Family.DEEPSEEK_V3, num_nextn_predict_layers=1)
    save_model(whole, tmp_path, None)
    config = tmp_path / "config.json"
    said = json.loads(config.read_text())
    config.write_text(json.dumps(said | {"num_nextn_predict_layers": 0}))
    assert load_model(tmp_path, prediction=True).config.num_nextn_predict_layers == 1
    assert load_model(tmp_path).config.num_nextn_predict_layers == 0
    config.write_text(json.dumps(said))
    weights = load_file(tmp_path / "model.safetensors")
    save_file({n: w for n, w in weights.items() if not n.startswith("model.layers.3.")}, tmp_path / "model.safetensors")
    assert load_model(tmp_path, prediction=True).config.num_nextn_predict_layers == 0


def in_eight_bits(folder: Path, block: int) -> dict[str, Tensor]:
    """Stores the matrices of the layers in blocks of 8 bits, and gives what they then are."""
    worked_out = {}

    def change(weights: dict[str, Tensor]) -> None:
        for name in [name for name in weights if name.endswith("_proj.weight")]:
            rows, columns = (-(-size // block) for size in weights[name].shape)
            scales = torch.rand(rows, columns) + 0.5
            spread = scales.repeat_interleave(block, 0).repeat_interleave(block, 1)
            spread = spread[: weights[name].shape[0], : weights[name].shape[1]]
            codes = (weights[name] / spread).to(torch.float8_e4m3fn)
            weights |= {name: codes, f"{name}_scale_inv": scales}
            worked_out[name] = codes.float() * spread

    stored(folder, change)
    return worked_out


def test_blocks_of_eight_bits_are_worked_out(tmp_path: Path) -> None:
    wanted = in_eight_bits(tmp_path, 16)  # 48 rows are three blocks
    file = tmp_path / "config.json"
    method = {"quant_method": "fp8", "weight_block_size": [16, 16]}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": method}))
    look_at(tmp_path)
    assert wanted
    assert all(torch.equal(state(tmp_path)[name], weight) for name, weight in wanted.items())
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(UserError, match=r"config\.json: its weights are quantized \(gptq\); take the checkpoint"):
        load_model(tmp_path)


def cast(weights: dict[str, Tensor]) -> None:
    weights[UP] = weights[UP].to(torch.float8_e4m3fn)


def scale_nothing(weights: dict[str, Tensor]) -> None:
    weights["model.norm.weight_scale_inv"] = torch.ones(1, 1)
    del weights["model.norm.weight"]


def scale_little(weights: dict[str, Tensor]) -> None:
    weights |= {UP: torch.zeros(256, 32), f"{UP}_scale_inv": torch.ones(1, 1)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cast, f"{UP} is stored as torch.float8_e4m3fn without scales"),
        (scale_nothing, "model.norm.weight_scale_inv scales no weight"),
        (scale_little, "does not cover its weight in blocks"),
    ],
)
def test_numbers_without_their_scales_are_refused(change: Change, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        load_model(stored(tmp_path, change))


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("gone.safetensors", r"its gone\.safetensors is a link to a file that is not there: fetch it again"),
        ("model-q8_0.gguf", r"name its GGUF file itself \(model-q8_0\.gguf\)"),
        ("snapshots/1f3/config.json", r"it is of Hugging Face's cache: name .*/snapshots/1f3"),
        ("adapter_config.json", "it holds an adapter alone: merge it"),
        ("consolidated.00.pth", "it is in the layout of its makers"),
        ("pytorch_model.bin", "its weights are pickled, which is never read"),
    ],
)
def test_a_folder_of_another_kind_is_told_what_to_name(file: str, said: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    if file == "gone.safetensors":
        (tmp_path / file).symlink_to("nowhere")
    else:
        (tmp_path / file).touch()
    with pytest.raises(UserError, match=f"no config.json; {said}"):
        look_at(tmp_path)
    save_model(tiny_model(Family.LLAMA), tmp_path, None)
    look_at(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match=f"no safetensors weights; {said}"):
        look_at(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_hidden_layers": 4}, "config.json says 4 layers, the files have 3; copy it again"),
        ({"num_hidden_layers": 2}, "config.json says 2 layers, the files have 3; copy it again"),
        ({"vocab_size": 98}, r"model\.embed_tokens\.weight is \[97, 32\], and config\.json says \[98, 32\]"),
    ],
)
def test_a_configuration_of_another_size_is_seen_in_the_headers(
    change: dict[str, int], said: str, tmp_path: Path
) -> None:
    save_model(tiny_model(Family.LLAMA), tmp_path, None)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match=said):
        look_at(tmp_path)


@pytest.mark.parametrize(
    ("name", "new", "said"),
    [
        (UP, None, f"{UP} is missing, or unlike that of other layers; copy it again"),
        (UP, torch.zeros(0, 32), f"{UP} is missing, or unlike"),
        ("value_head.weight", torch.zeros(1), "value_head.weight is no weight of a llama model; save the model with"),
    ],
)
def test_weights_that_do_not_fit_are_seen_in_the_headers(
    name: str, new: Tensor | None, said: str, tmp_path: Path
) -> None:
    def change(weights: dict[str, Tensor]) -> None:
        weights.pop(name, None)
        weights.update({} if new is None else {name: new})

    with pytest.raises(UserError, match=said):
        look_at(stored(tmp_path, change))


@pytest.mark.parametrize("family", Family)
def test_every_family_passes_the_first_look(family: Family, tmp_path: Path) -> None:
    depths = {"num_nextn_predict_layers": 1} if family is Family.DEEPSEEK_V3 else {}
    save_model(tiny_model(family, **depths), tmp_path, None)
    look_at(tmp_path)
