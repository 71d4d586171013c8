"""How a released model is sampled where nobody says: the recipe writes it, serving reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.release.export import _copy
from model.sections import ExportConfig
from model.serving.defaults import SamplingDefaults, sampling_defaults


@pytest.mark.parametrize(
    ("keys", "served"),
    [
        ({}, SamplingDefaults(0.7, 1.0)),
        ({"temperature": 0}, SamplingDefaults(0.0, 1.0)),
        ({"temperature": 0.6, "top_p": 0.95}, SamplingDefaults(0.6, 0.95)),
    ],
)
def test_the_recipe_says_how_a_model_is_sampled(
    keys: dict[str, float], served: SamplingDefaults, tmp_path: Path
) -> None:
    source, target, tokenizer = (tmp_path / name for name in ("source", "target", "tokenizer"))
    for folder in (source, tokenizer):
        folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (source / name).write_text("{}")
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": 1, "temperature": 0.7}))
    _copy(source, target, tokenizer, ExportConfig(**keys))
    assert sampling_defaults(target) == served
    assert json.loads((target / "generation_config.json").read_text())["eos_token_id"] == 1
