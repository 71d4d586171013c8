"""Results of stages as their artifacts keep them, those of earlier versions among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import UserError
from model.facts.evaluation import CheckpointMarks, Evaluation, Marks, SuiteMarks, read_evaluation
from model.facts.release import PrecisionFacts, Quantization, QuantizeMetrics, read_quantization


def test_sampled_measures_stand_beside_the_others() -> None:
    marks = CheckpointMarks(
        **Marks(accuracy=0.5, accuracy_low=0.4, accuracy_high=0.6, problems=8).given(),
        **{"pass@4": 0.75, "pass@4_interval": [0.5, 0.9]},
        suites={"choice": SuiteMarks(accuracy=1.0, problems=2)},
    )
    found = Evaluation(checkpoints={"sft": marks}, order=["sft"])
    kept = found.written()["checkpoints"]["sft"]
    assert kept["pass@4_interval"] == [0.5, 0.9]
    assert "loss" not in kept
    again = Evaluation.read(found.written())
    assert again == found
    assert again.checkpoints["sft"].sampled == {"pass@4": 0.75}
    assert again.checkpoints["sft"].sampled_interval("pass@4") == (0.5, 0.9)
    assert again.checkpoints["sft"].interval == (0.4, 0.6)


def test_an_evaluation_of_an_earlier_version_is_read() -> None:
    found = Evaluation.read({"checkpoints": {"grpo": {"accuracy": 0.5, "mood": "fine"}}, "samples": 3})
    assert found.checkpoints["grpo"].accuracy == 0.5
    assert found.checkpoints["grpo"].interval is None
    assert found.samples == []
    assert [name for name, _ in found.ordered] == ["grpo"]


def test_a_quantization_is_written_to_six_digits() -> None:
    found = Quantization(precisions={"f32": PrecisionFacts(bytes=8), "int4": PrecisionFacts(bytes=3, kl=0.123456789)})
    assert found.written()["precisions"] == {"f32": {"bytes": 8}, "int4": {"bytes": 3, "kl": 0.123457}}
    metrics = QuantizeMetrics(**{"kl_int4": 0.1, "bytes_int4": 3})
    assert (metrics.kl_of("int4"), metrics.kl_of("f32"), metrics.bytes_of("int8")) == (0.1, 0.0, None)


@pytest.mark.parametrize("read", [read_evaluation, read_quantization])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, read: object) -> None:
    (tmp_path / "evaluation.json").write_text("[]")
    with pytest.raises(UserError, match=r"\.json: not readable"):
        read(tmp_path)  # type: ignore[operator]
