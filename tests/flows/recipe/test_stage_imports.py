"""One process imports what all stages need and forks each from there: nothing may be left that tells them apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from flows.recipe.stages import STAGES
from infra.processes import python_path

SCRIPT = """
import csv, decimal, json, locale, logging, os, random, signal, sys
from infra import stage_server

def state():
    return {
        "variables": dict(os.environ),
        "folder": os.getcwd(),
        "umask": [os.umask(0o022), os.umask(0o022)][1],
        "handlers": [repr(signal.getsignal(number)) for number in signal.valid_signals()],
        "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "recursion": sys.getrecursionlimit(),
        "digits": sys.get_int_max_str_digits(),
        "field": csv.field_size_limit(),
        "decimals": str(decimal.getcontext()),
        "locale": locale.setlocale(locale.LC_ALL),
        "random": hash(random.getstate()),
        "log": [logging.root.level, len(logging.root.handlers), logging.root.manager.disable],
        "subnormal": sys.float_info.min / 2,
    }

before = state()
stage_server._Imports().add(json.loads(sys.argv[1]))
import torch
print(json.dumps({
    "changed": [name for name, value in state().items() if value != before[name]],
    "missing": [name for name in json.loads(sys.argv[1]) if name not in sys.modules],
    "can fork": stage_server._can_fork(),
    "torch": [str(torch.get_default_dtype()), torch.is_grad_enabled(), torch.cuda.is_initialized()],
}))
"""


def test_what_stages_import_leaves_nothing_behind() -> None:
    modules = sorted({name for row in STAGES for name in (row.entrypoint.split(":")[0], *row.imports)})
    printed = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(modules)],
        env={**os.environ, "PYTHONPATH": python_path(), "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    assert json.loads(printed) == {
        "changed": [],
        "missing": [],
        "can fork": True,
        "torch": ["torch.float32", True, False],
    }
