"""What a model or a data row writes costs its own answer and nothing else: programs and answers made to do harm."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.reasoning.problem_files import read_problems
from pipeline.reasoning.sandbox import Limits, judge, run_programs
from pipeline.reasoning.scoring import mark_answers, score

LIMITS = Limits(seconds=0.3, memory_bytes=64 << 20, output_bytes=500)
STATUSES = (1, 2, 3, 7, 109, 120, 126, 139, 255)

# Programs that print the right answer, 4, and then do not end as a program that is right ends.
SPOILED = [
    *(f"import os; print(4); os._exit({status})" for status in STATUSES),
    "import sys; print(4); sys.exit(3)",
    "print(4); raise SystemExit('no')",
    "print(4); raise KeyboardInterrupt",
    "print(4); raise GeneratorExit",
    "print(4); 1 / 0",
    """import sys
class Stream:
    def write(self, text): return len(text)
    def flush(self): raise OSError(5, "no")
print(4)
sys.stdout = Stream()""",
    "import sys\nprint(4)\nsys.stdout = None",
    "import sys\nprint(4)\nsys.stdout.close()\ndel sys.stdout",
    "class E(BaseException):\n    def __str__(self): raise self\nprint(4)\nraise E",
    "class E(BaseException):\n    def __str__(self): return 'x' * 10 ** 7\nprint(4)\nraise E",
    "class E(BaseException):\n    def __str__(self):\n        while True: pass\nprint(4)\nraise E",
    "import os\nprint(4)\nos.abort()",
    "import ctypes\nprint(4)\nctypes.string_at(0)",
    "import ctypes, sys\nprint(4)\nctypes.memset(id(sys._getframe()), 0xFF, 1000)\nsys._getframe().f_back",
    "def f(): f()\nprint(4)\nf()",
    "print(4)\nwhile True: print('x' * 100)",
    "import os\nprint(4)\nwhile True: os.write(1, b'x' * 10 ** 6)",
    "print(4)\nx = bytearray(10 ** 12)",
    "print(4)\nx = []\nwhile True: x.append(bytearray(10 ** 6))",
    "print(4)\nwhile True: pass",
    "print(4)\nlen(str(9 ** 9 ** 8))",
    "print(4)\nimport re; re.match('(a+)+$', 'a' * 60 + 'b')",
    "import _thread\nprint(4)\nlock = _thread.allocate_lock()\nlock.acquire()\nlock.acquire()",
    "import signal\nprint(4)\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass",
    "import os, signal\nprint(4)\nos.kill(os.getpid(), 9)",
    "import os\nprint(4)\nwhile True: os.fork()",
    "import time\nprint(4)\ntime.sleep(1000)",
    "print(4)\ninput()",
    "import os\nprint(4)\nos.read(0, 1)",
    "import select\nprint(4)\nselect.select([0], [], [])",
    "import sys\nprint(4)\nsys.modules.clear()\nsys.path.clear()\nimport wave",
    "print(4)\n" + "(" * 10_000,
    "print(4)\n\0",
    "print(4) # \udcff",
    "print('4', '\udcff')",
    "import ctypes\nprint(4)\nlibc = ctypes.CDLL(None)\nif libc.prctl(22, 0, 0, 0, 0) < 0: raise OSError",
    "import ctypes\nprint(4)\nif ctypes.CDLL(None).syscall(425, 8, 0) < 0: raise OSError",
    "import ctypes\nprint(4)\nif ctypes.CDLL(None).syscall(319, b'x', 0) < 0: raise OSError",
    "import ctypes, os\nprint(4)\nif ctypes.CDLL(None).ptrace(16, os.getpid(), 0, 0) < 0: raise OSError",
    "import os\nprint(4)\nos.sched_setaffinity(0, {0})",
    "import os\nprint(4)\nos.memfd_create('x')",
    "import os\nprint(4)\nos.pipe()",
    "import os\nprint(4)\nos.dup(1)",
    "import mmap\nprint(4)\nmmap.mmap(-1, 1 << 34)",
    "print(4)\nopen('/proc/self/mem', 'rb').read(1)",
    "print(4)\nopen(__file__).read()",
]
# These end well: what they did besides is nothing.
HARMLESS = [
    "import builtins\nprint(4)\nbuiltins.__dict__.clear()",
    "import signal\nprint(4)\nsignal.pause()",
    "import os\nprint(4)\nos._exit(0)",
    "import os\nprint(4)\nos._exit = None",
    "import os\nprint(4, flush=True)\nos.closerange(0, 4096)",
    "import os\nfor end in (*range(2, 60), 0):\n    try: os.write(end, b'+1.0')\n    except OSError: pass\nprint(4)",
    "import atexit\natexit.register(print, 5)\nprint(4)",
    "import sys, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nprint(4)",
    "import _thread\nlock = _thread.allocate_lock()\nlock.acquire()\nlock.acquire(timeout=100)\nprint(4)",
    "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\nprint(4)",
]
HOSTILE_ANSWERS = [
    "print(1,end='')",
    "[print(1,end='')]",
    "__import__('os').write(1,b'1.0')",
    "[__import__('os').write(end, b'\\0\\0\\0\\0\\0\\0\\xf0?') for end in range(9)]",
    "__import__('os')._exit(0)",
    "(lambda: 24)()",
    "[x for x in (24,)][0]",
    "(x := 24)",
    "f'{24}'",
    "''.join(['2','4'])",
    "[].__class__.__base__.__subclasses__()",
    "ｐｒｉｎｔ(1,end='')",
    "ｏｐｅｎ('/etc/passwd').read()",
    "[ｏｐｅｎ('/etc/hostname').readline()]",
    "__ｉｍｐｏｒｔ__('os').system('true')",
    "ｅｘｅｃ('raise SystemExit(0)')",
    "𝓮𝓿𝓪𝓵('24')",
    "exit(0)",
    "quit()",
    "S('print(1)')",
    "sympify('24')",
    "Symbol('x').__class__",
    "Lambda(x, 24)(1)",
    "lambdify(x, 'print(1)')(1)",
    "Function('f')(24)",
    "preview(x)",
    "globals()",
    "vars()",
    "breakpoint()",
    "input()",
    "9**9**9**9",
    "factorial(10**9)",
    "[" * 900,
    "(" * 900 + "1",
    "1e999999999",
    "nan",
    "\0",
    "\udcff",
    "raise SystemExit(0)",
    "24;print(1)",
    "24 if True else 0",
    "24 or print(1)",
]
EVALUATED = (
    "binary_matrix",
    "bitwise_arithmetic",
    "countdown",
    "intermediate_integration",
    "n_queens",
    "number_sorting",
    "polynomial_multiplication",
    "puzzle24",
    "simple_integration",
    "spiral_matrix",
    "string_insertion",
)
"""Data sets of reasoning-gym whose scorers call `eval`, or what is built on it."""


def _file_row(answer: str = "4") -> dict[str, Any]:
    return {"task": "mine", "question": "?", "answer": answer, "metadata": {"file": "mine.jsonl"}}


def _fenced(program: str) -> str:
    return f"```python\n{program}\n```"


def _entry(dataset: str) -> dict[str, Any]:
    import reasoning_gym  # seconds, which only the worker that has this file is to pay

    return dict(json.loads(json.dumps(reasoning_gym.create_dataset(dataset, seed=3, size=1)[0])))


def _helpers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "sandbox_worker" in " ".join(child.cmdline())]


def test_each_program_costs_its_own_answer() -> None:
    programs = [program for pair in zip(SPOILED, (f"print({n})" for n in range(99)), strict=False) for program in pair]
    outcomes = run_programs(programs, LIMITS)
    assert [outcome.output for outcome in outcomes[1::2]] == [f"{n}\n" for n in range(len(SPOILED))]
    ended_well = [program for program, outcome in zip(SPOILED, outcomes[::2], strict=True) if outcome.is_ok]
    assert all("stdout" in program or "udcff" in ascii(program) for program in ended_well), ended_well
    assert all(len(outcome.output) <= 500 for outcome in outcomes)


def test_a_program_is_right_by_what_it_printed_and_how_it_ended() -> None:
    programs = [*HARMLESS, *SPOILED[: len(STATUSES)]]
    marks = mark_answers([_fenced(program) for program in programs], [_file_row()] * len(programs), limits=LIMITS)
    assert [mark.score for mark in marks] == [1.0] * len(HARMLESS) + [0.0] * len(STATUSES)


@pytest.mark.parametrize("status", STATUSES)
def test_the_exit_status_is_the_programs_own_word(status: int) -> None:
    """It used to say that the sandbox could not be made, and ended the stage."""
    assert score("mine", _fenced(f"import os; print(4); os._exit({status})"), _file_row()) == 0.0


def test_hostile_rows_are_rejected_and_the_others_stay(tmp_path: Path) -> None:
    programs = ["import os; print(4); os._exit(3)", "print(4)", "while True: print(4)", "print(5)", "print(2 + 2)"]
    rows = [{"question": f"q{n}", "answer": "4", "program": program} for n, program in enumerate(programs)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    good, rejects = read_problems([str(tmp_path / "rows.jsonl")], max_failures=1.0, where="reasoning.files")
    assert [row["question"] for row in good] == ["q1", "q4"]
    assert [reject["record"] for reject in rejects] == [1, 3, 4]


@pytest.mark.parametrize("dataset", EVALUATED)
def test_no_answer_writes_its_own_verdict(dataset: str) -> None:
    entry = _entry(dataset)
    hostile = HOSTILE_ANSWERS if dataset in ("countdown", "n_queens", "simple_integration") else HOSTILE_ANSWERS[:16]
    requests = [
        {"kind": "gym", "dataset": dataset, "answer": answer, "entry": entry} for answer in (*hostile, entry["answer"])
    ]
    marks = judge(requests, Limits(seconds=1.0))
    assert marks[-1] == 1.0
    assert max(marks[:-1]) < 1.0, requests[marks.index(max(marks[:-1]))]["answer"]
    row = {"task": dataset, "question": "?", "answer": entry["answer"], "metadata": entry["metadata"]}
    assert score(dataset, "print(1,end='')", row) == 0.0


@pytest.mark.parametrize("name", ["open", "ｏｐｅｎ"])
def test_no_answer_reads_a_file(name: str, tmp_path: Path) -> None:
    """The scorer gives a tenth for a list of the right values, which here stand in a file."""
    entry = _entry("spiral_matrix")
    (tmp_path / "answer").write_text(entry["answer"])
    answer = f"{name}({str(tmp_path / 'answer')!r}).read().split()"
    listed = repr([int(number) for number in entry["answer"].split()])
    requests = [
        {"kind": "gym", "dataset": "spiral_matrix", "answer": text, "entry": entry} for text in (answer, listed)
    ]
    assert judge(requests) == [0.0, 0.1]


def test_hostile_answers_to_mathematics_are_wrong() -> None:
    common = {"kind": "typed", "expected": "42", "answer_type": None, "choices": []}
    requests = [{**common, "answer": answer} for answer in ("42", *HOSTILE_ANSWERS, "42.0")]
    marks = judge(requests, Limits(seconds=0.5))
    assert [marks[0], marks[-1]] == [1.0, 1.0]
    assert max(marks[1:-1]) < 1.0


def test_an_answers_code_is_not_run_wherever_it_stands() -> None:
    """An expected answer, too, comes from a row; `number_sorting` evaluates that one."""
    entry = _entry("number_sorting") | {"answer": "['1'] if print(1,end='') else ['1']"}
    assert judge([{"kind": "gym", "dataset": "number_sorting", "answer": '["1"]', "entry": entry}]) == [0.0]


def test_no_child_is_forked_from_a_process_that_saw_a_job() -> None:
    """The memory of every helper is read from outside after jobs that held something to be found."""
    needle = "quagga" + "-4711-" + "okapi"
    entry = {"question": needle, "answer": needle, "metadata": {"source_dataset": "chain_sum"}}
    run_programs([f"print({needle!r})", f"import sympy; print({needle!r})"])
    judge([{"kind": "gym", "dataset": "chain_sum", "answer": needle, "entry": entry}])
    assert score("mine", needle + ".", _file_row(needle)) == 1.0
    helpers = [child for child in psutil.Process().children() if "sandbox" in " ".join(child.cmdline())]
    assert helpers
    for helper in helpers:
        assert needle.encode() not in _memory(helper.pid)


def _memory(pid: int) -> bytes:
    """What a process may write to, joined."""
    parts = []
    maps = Path(f"/proc/{pid}/maps").read_text()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for start, end in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) rw", maps, re.MULTILINE):
            memory.seek(int(start, 16))
            parts.append(memory.read(int(end, 16) - int(start, 16)))
    return b"".join(parts)


def test_siblings_are_in_no_frame() -> None:
    spy = """import gc, sys
frame, seen = sys._getframe(), []
while frame:
    seen.append(repr(frame.f_locals))
    frame = frame.f_back
needle = 'quagga' + '-4711'
print(any(needle in text for text in seen), any(needle in item for item in gc.get_objects() if type(item) is dict))"""
    outcomes = run_programs(["x = 'quagga-4711'", spy, "x = 'quagga-4711'"])
    assert outcomes[1].output == "False False\n"


def test_time_is_up_when_it_is_up() -> None:
    """Blocked signals do not stretch it: the processor time is counted by the process that ends the child."""
    run_programs(["print(1)"])
    before = _spent()
    program = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass"
    assert run_programs([program], LIMITS)[0].status == "time"
    assert _spent() - before < 1.0


def _spent() -> float:
    """Seconds of processor time of the helpers' children."""
    children = [child for child in psutil.Process().children() if "sandbox" in " ".join(child.cmdline())]
    return sum(child.cpu_times().children_user + child.cpu_times().children_system for child in children)


def test_a_wait_without_end_ends_at_once() -> None:
    """Nothing that a child may do blocks: none is there to wait for, and the processor is never given up."""
    program = "import _thread\nlock = _thread.allocate_lock()\nlock.acquire()\nlock.acquire()"
    found = run_programs([program] * 4, Limits(seconds=20))  # four would hold a slot each for minutes
    assert [outcome.status for outcome in found] == ["time"] * 4


def test_helpers_that_are_ended_are_started_anew() -> None:
    run_programs(["print(1)"])
    for helper in _helpers():
        helper.kill()
        helper.wait()
    assert [outcome.output for outcome in run_programs(["print(1)", "print(2)"])] == ["1\n", "2\n"]


def test_the_sandbox_leaves_no_process_behind() -> None:
    run_programs([*SPOILED[:20], "while True: pass"], LIMITS)
    assert [child for helper in _helpers() for child in helper.children()] == []


WITHOUT_SECCOMP = """
import ctypes, platform, struct, sys
from pipeline.reasoning import lockdown
from pipeline.reasoning.sandbox import run_programs
prctl = {"x86_64": 157, "aarch64": 167}[platform.machine()]
rules = [(0x20, 0, 0, 0), (0x15, 0, 3, prctl), (0x20, 0, 0, 16), (0x15, 0, 1, 22), (6, 0, 0, 0x50001)]
rules.append((6, 0, 0, 0x7FFF0000))
code = b"".join(struct.pack("HBBI", *rule) for rule in rules)
held = ctypes.create_string_buffer(code, len(code))
filter = lockdown._Program(len(rules), ctypes.cast(held, ctypes.c_void_p))
lockdown._prctl(38, 1)
lockdown._prctl(22, 2, ctypes.byref(filter))
try:
    run_programs(["open({target!r}, 'w')"])
except Exception as error:
    print(type(error).__name__, error)
"""


def test_nothing_runs_where_it_cannot_be_locked(tmp_path: Path) -> None:
    """A kernel that refuses the filter: a filter of our own refuses it."""
    code = WITHOUT_SECCOMP.replace("{target!r}", repr(str(tmp_path / "reached")).replace('"', "'"))
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("UserError no sandbox: [Errno 1] prctl 22; programs are run"), found.stdout
    assert not (tmp_path / "reached").exists()
