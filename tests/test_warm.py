"""Workers are forks of one process that has imported what the tests do."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.warm import Warm, imports


def test_what_tests_import_but_for_other_tests(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("import json, os.path\nfrom tests.flows import tiny\nimport pytest\n")
    (tmp_path / "test_two.py").write_text("from . import near\nimport pytest\n\ndef test_it():\n    import late\n")
    assert imports(sorted(tmp_path.glob("*.py"))) == ["json", "os.path", "pytest"]


def test_a_fork_is_an_interpreter_that_knows_what_was_imported(tmp_path: Path) -> None:
    """Its program comes by its standard input, as from xdist; each has files of its own and ends by itself."""
    (tmp_path / "test_one.py").write_text("import wave\nimport no_such_module\n")
    warm = Warm()
    command = [*warm.start([f"{tmp_path / 'test_one.py'}::test_x"]), "-u", "-c", "as xdist appends"]
    try:
        program = (
            "import sys, os, threading\nprint('wave' in sys.modules, __name__, sys.argv, threading.active_count())"
        )
        programs = [program, "raise SystemExit(3)", "import os; os._exit(0)"]
        told = [
            subprocess.run(command, input=f"{each!r}\n", capture_output=True, text=True, check=True, timeout=60)
            for each in programs
        ]
    finally:
        warm.pytest_unconfigure()
    assert told[0].stdout == "True __main__ ['-c'] 1\n"
    assert [each.stderr for each in told] == ["", "", ""]
    assert subprocess.run(command, input=b"", capture_output=True, check=False, timeout=60).returncode != 0
