"""A process is told from a later one with the same number."""

from __future__ import annotations

import json
import subprocess
import sys

from infra.processes import is_alive_here, this_process


def test_only_the_same_process_is_alive() -> None:
    me = this_process()
    assert is_alive_here(me) is True
    assert is_alive_here({**me, "born": "another boot/1"}) is False
    assert is_alive_here({"host": me["host"], "pid": me["pid"]}) is True  # as older records say it
    assert is_alive_here({**me, "host": "elsewhere"}) is None
    assert is_alive_here({}) is None


def test_one_that_ended_is_not() -> None:
    code = (
        "import json; from infra.processes import this_process; print(json.dumps(this_process()), flush=True); input()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    there = json.loads(process.stdout.readline())
    assert is_alive_here(there) is True
    process.kill()
    while is_alive_here(there):
        pass
    assert is_alive_here(there) is False  # nobody has collected it yet
    process.wait()
    assert is_alive_here(there) is False
