"""Checkpoints: the same bytes every time, and clear refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from infra.errors import UserError
from model.architecture.checkpoint import load_config, load_model, save_model
from model.architecture.config import Family
from tests.model.conftest import tiny_model


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("family", list(Family))
def test_round_trip_keeps_every_byte(family: Family, tmp_path: Path) -> None:
    model = tiny_model(family)
    save_model(model, tmp_path / "a", None)
    again = load_model(tmp_path / "a")
    save_model(again, tmp_path / "b", None)
    assert _files(tmp_path / "a") == _files(tmp_path / "b")
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_the_tokenizer_comes_along_and_names_the_special_tokens(tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    tokens = [{"id": i, "content": c, "special": True} for i, c in enumerate(("<|bos|>", "<|eos|>", "<|pad|>"))]
    (tokenizer / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))
    settings = {"bos_token": "<|bos|>", "eos_token": {"content": "<|eos|>"}, "pad_token": "<|pad|>"}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings))
    save_model(tiny_model(), tmp_path / "model", tokenizer)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert [config[f"{role}_token_id"] for role in ("bos", "eos", "pad")] == [0, 1, 2]
    assert (tmp_path / "model" / "tokenizer.json").exists()
    assert json.loads((tmp_path / "model" / "generation_config.json").read_text())["eos_token_id"] == 1


def test_refusals_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        load_config(tmp_path)
    save_model(tiny_model(), tmp_path, None)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model\.safetensors: cannot be read"):
        load_model(tmp_path)
    weights.unlink()
    with pytest.raises(UserError, match="no safetensors"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([], "holds no JSON object but list"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "the key 'factor' is missing; copy the folder again"),
        ({"rope_scaling": 3}, "rope_scaling and rope_parameters must be one object"),
        ({"vocab_size": -3}, "vocab_size: wants 0 or more"),
    ],
)
def test_a_configuration_that_is_none_is_named(changes: Any, message: str, tmp_path: Path) -> None:
    save_model(tiny_model(Family.LLAMA), tmp_path, None)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes if changes else changes))
    with pytest.raises(UserError, match=re.escape(f"{file}: {message}")) as caught:
        load_config(tmp_path)
    assert "\n" not in str(caught.value)


def test_weights_of_another_model_are_named_by_a_few(tmp_path: Path) -> None:
    save_model(tiny_model(tie_word_embeddings=True), tmp_path, None)
    weights = load_file(tmp_path / "model.safetensors")
    weights["stranger"] = weights.pop("model.embed_tokens.weight")
    weights["model.norm.weight"] = weights["model.norm.weight"][:3].clone()
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError) as caught:
        load_model(tmp_path)
    assert "missing; stranger not known; model.norm.weight of another shape; copy it again" in str(caught.value)
    assert len(str(caught.value)) < 400
