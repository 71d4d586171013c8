"""Layouts agree: ranks, expert parallelism, ZeRO, offload and recomputation give the same losses and weights, and a
checkpoint of one goes on in another."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from infra.errors import UserError
from infra.execution import ENVIRONMENT_KEY
from infra.launch import launch
from model.architecture.checkpoint import load_model
from model.training.prepare import _cpu_has_bf16
from tests.model.training.layouts import run_job

TARGET = "tests.model.training.layouts:run_rank"
pytestmark = pytest.mark.timeout(900)  # the fixture trains in every layout
STOCK = {"training": {"micro_batch": 4}}
BALANCED = {"micro_batch": 4, "balance_loss": 0.3, "device_balance_loss": 0.3, "balance_devices": 4}
MUON = {"optimizer": "muon", "micro_batch": 4}
GROUPED = {"micro_batch": 4, "decayed": "matrices", "router_rate": 3.0, "router_z_loss": 0.01, "weight_decay": 1.0}
PREDICTING = {"num_nextn_predict_layers": 1}


def _two(**more: Any) -> dict[str, Any]:
    return {"ranks": 2, **more}


MATRIX: dict[str, dict[str, Any]] = (
    {
        # first: ZeRO-3 without recomputation replaces torch's `linear` for the rest of a process
        "recompute1": {"execution": _two(zero=1, expert_parallel=2, recompute=True)},
        "recompute3": {"execution": _two(zero=3, expert_parallel=2, recompute=True)},
    }
    | {
        f"zero{zero}-ep{ep}": {"execution": _two(zero=zero, expert_parallel=ep)}
        for zero, ep in itertools.product(range(4), (1, 2))
    }
    | {
        "offload2": {"execution": _two(zero=2, expert_parallel=2, offload=True)},
        "offload3": {"execution": _two(zero=3, expert_parallel=2, offload=True)},
        "background": {"execution": _two(expert_parallel=2, checkpoints={"seconds": 0, "asynchronous": True})},
        "softmax-ep2": {"execution": _two(expert_parallel=2), "family": "deepseek"},
        "groups-ep2": {"execution": _two(zero=1, expert_parallel=2), "training": GROUPED},
        "groups-zero3": {"execution": _two(zero=3), "training": GROUPED},
        "muon-ep1": {"execution": _two(), "training": MUON},
        "muon-zero1": {"execution": _two(zero=1), "training": MUON},
        "muon-zero1-ep2": {"execution": _two(zero=1, expert_parallel=2), "training": MUON},
        "muon-ep2": {"execution": _two(expert_parallel=2), "training": MUON},
        "balanced-ep2": {"execution": _two(expert_parallel=2), "family": "deepseek", "training": BALANCED},
        "predicting-ep2": {"execution": _two(expert_parallel=2), "changes": PREDICTING},
    }
    | {f"skipping-zero{zero}": {"execution": _two(zero=zero, expert_parallel=2), "idle": 3} for zero in (0, 1, 3)}
)
REFERENCES = {
    "softmax-ep2": "softmax",
    "groups-ep2": "groups",
    "groups-zero3": "groups",
    "muon-ep1": "muon",
    "muon-ep2": "muon",
    "muon-zero1": "muon",
    "muon-zero1-ep2": "muon",
    "balanced-ep2": "balanced",
    "predicting-ep2": "predicting",
    **{f"skipping-zero{zero}": "skipping" for zero in (0, 1, 3)},
}
SINGLES: dict[str, dict[str, Any]] = {
    "single": {"execution": {}},
    "softmax": {"execution": {}, "family": "deepseek"},
    "groups": {"execution": {}, "training": GROUPED},
    "muon": {"execution": {}, "training": MUON},
    "balanced": {"execution": {}, "family": "deepseek", "training": BALANCED},
    "devices": {"execution": {}, "family": "deepseek", "training": BALANCED | {"device_balance_loss": 0.0}},
    "predicting": {"execution": {}, "changes": PREDICTING},
    "skipping": {"execution": {}, "idle": 3},
}
ROUNDED: dict[str, dict[str, Any]] = {
    "bf16": {"execution": _two(precision="bf16", zero=0)},
    "bf16-zero3": {"execution": _two(precision="bf16", zero=3)},
    "bf16-ep2": {"execution": _two(precision="bf16", expert_parallel=2)},
}
"""Products in bf16, by choice: what a GPU does by itself."""
AT_NIGHT = frozenset(f"zero{layout}" for layout in ("0-ep1", "1-ep1", "2-ep1", "2-ep2", "3-ep1")) | {
    "recompute1",
    "offload3",
    "softmax-ep2",
    "groups-zero3",
    "skipping-zero0",
    "skipping-zero1",
    "bf16",
}
"""Layouts whose parts others have: each is some seconds of two processors. By day Muon is under ZeRO-1 without split
experts, the last of the chain under ZeRO-3, and another DeepSeek of the first kind has its experts split."""
EP2, DP3 = _two(zero=1, expert_parallel=2), _two(zero=3)


def _launch(jobs: list[dict[str, Any]], folder: Path) -> None:
    launch(TARGET, {"jobs": [STOCK | job for job in jobs], "folder": str(folder)}, 2)


def _params(names: Iterable[str]) -> list[Any]:
    """The layouts as parameters of a test, of which some are for the night."""
    return [pytest.param(name, marks=pytest.mark.nightly) if name in AT_NIGHT else name for name in names]


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layouts of the matrix, and a chain of checkpoints through 2, 1 and 2 ranks, as far as two launches go."""
    mine = [item for item in request.session.items if item.path == request.path]
    by_night = any(item.get_closest_marker("nightly") for item in mine)
    folder = tmp_path_factory.mktemp("layouts")
    hidden = tmp_path_factory.mktemp("hidden")  # what the tests have installed and a run has not
    (hidden / "transformers.py").write_text("raise ImportError('a run has no transformers')\n")
    (hidden / "mlflow.py").write_text("raise SystemExit('a rank wants no MLflow')\n")  # whose import takes a second
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(hidden))
        patch.setenv(ENVIRONMENT_KEY, "{}")  # restored afterwards; the jobs set their own
        for name, job in SINGLES.items():
            if name == "softmax" and not by_night:
                continue
            run_job(STOCK | {"name": name} | job, folder)
        every = MATRIX | (ROUNDED if _cpu_has_bf16() else {})
        jobs = [{"name": name} | job for name, job in every.items() if by_night or name not in AT_NIGHT]
        _launch(
            [
                *jobs,
                {"name": "again3", "execution": _two(zero=3, expert_parallel=2), "stop": 3},
                {"name": "again3", "execution": _two(zero=3, expert_parallel=2)},
                {"name": "chain", "execution": EP2, "stop": 2},
                {"name": "muon-chain", "execution": _two(zero=1), "training": MUON, "stop": 3},
            ],
            folder,
        )
        run_job(STOCK | {"name": "chain", "execution": {}, "stop": 4}, folder)
        run_job(STOCK | {"name": "muon-chain", "execution": {}, "training": MUON, "stop": 5}, folder)
        last = {"name": "muon-chain", "execution": EP2, "training": MUON}
        _launch([{"name": "chain", "execution": EP2, "stop": 5}, {"name": "chain", "execution": DP3}, last], folder)
    return folder


def _history(folder: Path, name: str) -> list[dict[str, float]]:
    return json.loads((folder / name / "history.json").read_text())


def _agree(folder: Path, name: str, reference: str) -> None:
    ours, theirs = _history(folder, name), _history(folder, reference)
    assert len(ours) == len(theirs) == 6
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, rel=1e-5)
    weights = [load_file(folder / run / "model" / "model.safetensors") for run in (name, reference)]
    assert weights[0].keys() == weights[1].keys()
    for parameter, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][parameter], atol=3e-4, rtol=0)


@pytest.mark.parametrize("name", _params(MATRIX))
def test_a_layout_trains_as_one_process(name: str, folder: Path) -> None:
    _agree(folder, name, REFERENCES.get(name, "single"))
    history = _history(folder, name)
    assert history[-1]["loss"] < history[0]["loss"]


def test_the_loss_of_the_devices_is_at_work(folder: Path) -> None:
    with_it, without = (_history(folder, name)[3]["grad_norm"] for name in ("balanced", "devices"))
    assert without != pytest.approx(with_it, rel=1e-3)


def test_the_prediction_layer_comes_along(folder: Path) -> None:
    model = load_model(folder / "predicting-ep2" / "model", prediction=True)
    assert model.config.num_nextn_predict_layers == 1


@pytest.mark.parametrize(
    "name", _params(["skipping", *(name for name, other in REFERENCES.items() if other == "skipping")])
)
def test_a_step_that_is_thrown_away_moves_nothing_in_any_layout(name: str, folder: Path) -> None:
    """Its first micro-batch has left gradients behind, in places that differ from layout to layout."""
    history = _history(folder, name)
    assert [row["step"] for row in history if row["grad_norm"] == 0.0] == [4]


@pytest.mark.parametrize("name", _params(ROUNDED))
def test_bf16_reaches_the_layers_of_deepspeed(name: str, folder: Path) -> None:
    """DeepSpeed closes an autocast around its engine: the losses would be those of fp32 to the last bits."""
    if not (folder / name).exists():
        pytest.skip("this CPU has no bf16 products (avx512_bf16 or amx_bf16)")
    rounded, exact = _history(folder, name), _history(folder, "single")
    apart = [abs(a["loss"] - b["loss"]) for a, b in zip(rounded, exact, strict=True)]
    assert 1e-5 < max(apart) < 2e-2
    loads = [key for key in exact[0] if key.startswith("expert_load_max")]
    assert [rounded[0][key] for key in loads[:1]] == [exact[0][key] for key in loads[:1]], "gates compute in fp32"


def test_checkpoints_go_from_two_ranks_to_one_and_back(folder: Path) -> None:
    """Experts over 2 ranks under ZeRO-1, one process, 2 ranks again, then data parallelism under ZeRO-3."""
    _agree(folder, "chain", "single")


def test_muon_under_zero_1_takes_the_steps_of_whole_states(folder: Path) -> None:
    _agree(folder, "muon-chain", "muon")
    for split, whole in (("muon-zero1", "muon-ep1"), ("muon-zero1-ep2", "muon-ep2")):
        weights = [(folder / name / "model" / "model.safetensors").read_bytes() for name in (split, whole)]
        assert weights[0] == weights[1], f"{split} has other bytes"


def test_the_same_layout_goes_on_bit_for_bit_under_zero_3(folder: Path) -> None:
    assert _history(folder, "again3") == _history(folder, "zero3-ep2")
    weights = [(folder / name / "model" / "model.safetensors").read_bytes() for name in ("again3", "zero3-ep2")]
    assert weights[0] == weights[1]


def test_kept_checkpoints(folder: Path) -> None:
    for name in ("zero3-ep2", "background"):
        kept = sorted(path.name for path in (folder / name / "snapshots").iterdir() if path.is_dir())
        assert kept == ["step-00000004", "step-00000005"], name  # none after the last step
        pointer = json.loads((folder / name / "snapshots" / "latest.json").read_text())
        assert (pointer["snapshot"], pointer["layout"]["ranks"]) == ("step-00000005", 2)


@pytest.mark.parametrize(
    ("execution", "training", "message"),
    [
        ({"expert_parallel": 3}, {}, "expert_parallel 3 must divide the 1 ranks and the 8 routed experts"),
        ({"zero": 2}, {"optimizer": "muon"}, "muon needs whole matrices"),
        ({"zero": 0, "offload": True}, {}, "offload moves what ZeRO has split"),
    ],
)
def test_what_does_not_go_together_is_refused(
    execution: dict[str, Any], training: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model.training.deepspeed_setup import layout_of
    from tests.model.conftest import tiny_config
    from tests.model.synthetic import small_training

    monkeypatch.setenv(ENVIRONMENT_KEY, json.dumps(execution))
    with pytest.raises(UserError, match=message):
        layout_of(tiny_config(), small_training(**training), 1)
