"""A registered talker in 4 bits, and its folder for browsers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.browser import export
from flows.browser.wllama import PACKAGES, write_wllama
from infra.errors import UserError
from infra.settings import Settings, quiet_network
from infra.tracking import registry_client
from model.architecture.checkpoint import save_model
from model.release.quantized import make_plan, save_quantized
from model.release.rounding import rounded
from model.release.units import Role
from model.sections import Precision
from tests.flows.prepared import prepare_mlflow
from tests.flows.registry.registered import register
from tests.model.serving.talker import save_tokenizer, taught

FACTS = {"accuracy": 1.0, "accuracy_low": 0.9, "accuracy_high": 1.0, "format_rate": 1.0, "quantization_kl": 0.0}


@dataclass(frozen=True)
class Registry:
    """Where versions are, and the weights that they were made of."""

    settings: Settings
    weights: Path


def make_registry(root: Path) -> Registry:
    """`talker/1`, its champion: 4 bits, the likeliest token where nobody says otherwise."""
    model = taught()
    save_model(model, root / "checkpoint", save_tokenizer(root / "tokenizer"))
    plan = make_plan(model, dict.fromkeys((Role.EXPERTS, Role.LINEAR, Role.EMBEDDINGS), Precision.Q4_0))
    save_quantized(root / "model", rounded(model, plan), root / "checkpoint")
    sampled = root / "model" / "generation_config.json"
    sampled.write_text(json.dumps(json.loads(sampled.read_text()) | {"do_sample": False}))
    settings = Settings(root=str(root / "store"))
    prepare_mlflow(root / "store")
    quiet_network()
    register(settings, "talker", root / "model", FACTS)
    registry_client(settings).set_registered_model_alias("talker", "champion", "1")
    return Registry(settings, root / "model")


def need_wllama(folder: Path) -> None:
    """Skip, saying why, where npm's registry gives no wllama; a package that is not the published one is a fault."""
    try:
        write_wllama(folder)
    except UserError as error:
        if "not what was published" in str(error):
            raise
        pytest.skip(str(error))
    assert {path.name for path in folder.iterdir()} == {name for package in PACKAGES for name in package.files}


def small_parts(patch: pytest.MonkeyPatch) -> None:
    """Parts and chunks so small that a very small model has several."""
    patch.setattr(export, "CHUNK", 1 << 14)
    patch.setattr(export, "MOST_PART", 1 << 16)
