"""A model without numbers costs no more than its modules."""

from __future__ import annotations

import subprocess
import sys

from model.architecture.skeleton import empty_model, skeleton
from tests.model.conftest import tiny_config, tiny_model

PROGRAM = """
import sys
from model.architecture.config import ModelConfig
from model.architecture.skeleton import empty_model, skeleton
config = ModelConfig.model_validate_json(sys.argv[1])
skeleton(config)
empty_model(config)
print({"torch._dynamo", "torch.fx.experimental.symbolic_shapes", "sympy"} & sys.modules.keys())
"""


def test_it_takes_the_weights_of_a_model() -> None:
    found, model = skeleton(tiny_config()), tiny_model()
    assert {parameter.device.type for parameter in found.parameters()} == {"meta"}
    found.load_state_dict(model.state_dict(), assign=True)
    assert all(a.equal(b) for a, b in zip(found.parameters(), model.parameters(), strict=True))


def test_an_empty_one_has_memory() -> None:
    assert {parameter.device.type for parameter in empty_model(tiny_config()).parameters()} == {"cpu"}


def test_torchs_compiler_is_not_imported_for_it() -> None:
    command = [sys.executable, "-c", PROGRAM, tiny_config().model_dump_json()]
    assert subprocess.check_output(command, text=True).strip() == "set()"
