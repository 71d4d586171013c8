"""The sandbox: what programs may do, and that nothing else comes of the worst of them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.reasoning.sandbox import Limits, judge, run_programs

LIMITS = Limits(seconds=0.3, memory_bytes=64 << 20, output_bytes=500)


def test_programs_compute() -> None:
    programs = [
        "print(2 + 3)",
        "import math\nfrom fractions import Fraction\nprint(math.comb(5, 2), Fraction(1, 3) + 1)",
        "import sympy\nx = sympy.symbols('x')\nprint(sympy.solve(x**2 - 4, x))",
        "def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\nprint(f(12))",
        "print(sorted({'b', 'a'}), hash('a') == hash('a'))",
    ]
    found = run_programs(programs, Limits(seconds=5))
    assert [outcome.status for outcome in found] == ["ok"] * 5
    assert [outcome.output for outcome in found] == ["5\n", "10 4/3\n", "[-2, 2]\n", "144\n", "['a', 'b'] True\n"]


@pytest.mark.parametrize(
    ("program", "statuses"),
    [
        ("while True: pass", "time"),
        ("print(len(str(9 ** 9 ** 7)))", "time"),
        ("import re; re.match('(a+)+$', 'a' * 40 + 'b')", "time"),
        ("x = [0] * 10 ** 9", "memory"),
        ("x = 'a'\nwhile True: x += x", "memory"),
        ("while True: print('x' * 100)", "output"),
        ("def f(): f()\nf()", "error"),
        ("print(", "error"),
        ("raise SystemExit(3)", "error"),
        ("1 / 0", "error"),
        ("input()", "error"),
        ("import time; time.sleep(1000)", "error"),
        ("import signal; signal.signal(signal.SIGPROF, signal.SIG_IGN)\nwhile True: pass", "error"),
        ("import signal; signal.setitimer(signal.ITIMER_PROF, 0)\nwhile True: pass", "error"),
        ("import ctypes; ctypes.string_at(0)", "killed"),
    ],
)
def test_a_program_ends(program: str, statuses: str) -> None:
    started = time.monotonic()
    (outcome,) = run_programs([program], LIMITS)
    assert outcome.status == statuses
    assert time.monotonic() - started < 90
    assert len(outcome.output) <= 500
    assert run_programs(["print(1)"])[0].output == "1\n"  # and the next one runs


@pytest.mark.parametrize(
    "program",
    [
        "import os; os.system('touch {file}'); print(os.path.exists('{file}'))",
        "open('{file}', 'w').write('x')",
        "open('/etc/passwd').read()",
        "import io; io.FileIO('{file}', 'w')",
        "import os; os.open('{file}', os.O_CREAT | os.O_WRONLY)",
        "import os; os.mkdir('{file}')",
        "import os; os.listdir('/')",
        "import os; os.fork()",
        "import os; os.execv('/bin/sh', ['sh', '-c', 'touch {file}'])",
        "import os; os.kill(os.getppid(), 9)",
        "import os; os.kill({pid}, 9)",
        "import subprocess; subprocess.run(['touch', '{file}'])",
        "import socket; socket.create_connection(('127.0.0.1', 22))",
        "import _socket; _socket.socket()",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1')",
        "import ctypes\nif ctypes.CDLL(None).socket(2, 1, 0) < 0: raise OSError",
        "import ctypes\nif ctypes.CDLL(None).creat(b'{file}', 0o600) < 0: raise OSError",
        "import ctypes\nif ctypes.CDLL(None).syscall(41, 2, 1, 0) < 0: raise OSError",
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))",
        "import threading; threading.Thread(target=print).start()",
        "import importlib; importlib.import_module('wave')",
    ],
)
def test_a_program_reaches_nothing(program: str, tmp_path: Path) -> None:
    target = tmp_path / "reached"
    (outcome,) = run_programs([program.replace("{file}", str(target)).replace("{pid}", str(os.getpid()))], LIMITS)
    assert outcome.status == "error" or outcome.output == "False\n"
    assert not target.exists()


def test_a_program_sees_nothing_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    (outcome,) = run_programs(["import os; print(dict(os.environ))"], LIMITS)
    assert outcome.is_ok
    assert "AWS" not in outcome.output
    assert "s3cret" not in outcome.output


def test_many_at_once_keep_their_order() -> None:
    found = run_programs([f"print({number})" if number % 3 else "while True: pass" for number in range(9)], LIMITS)
    assert [outcome.output for outcome in found if outcome.is_ok] == ["1\n", "2\n", "4\n", "5\n", "7\n", "8\n"]
    assert [outcome.status for outcome in found[::3]] == ["time"] * 3


def test_judges_judge_and_a_hanging_one_gives_nothing() -> None:
    def math(answer: str, expected: str) -> dict[str, Any]:
        return {"kind": "typed", "answer": answer, "expected": expected, "answer_type": None, "choices": []}

    entry = {"question": "?", "answer": "12", "metadata": {"source_dataset": "chain_sum"}}
    requests = [
        math("1/2", "0.5"),
        math("0.6", "0.5"),
        math("10^{10^{10^{10}}}", "3"),
        {"kind": "gym", "dataset": "chain_sum", "answer": "12", "entry": entry},
        {"kind": "gym", "dataset": "no_such_set", "answer": "12", "entry": entry},
    ]
    assert judge(requests, Limits(seconds=2.0)) == [1.0, 0.0, 0.0, 1.0, 0.0]
