"""What counts as other code, and what does not."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from infra import fingerprint as module
from infra.fingerprint import fingerprint, has_changed, reached_modules


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package on its own path that the fingerprint takes for a layer."""
    package = tmp_path / "fakelayer"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "stage.py").write_text('"""Doc."""\nfrom fakelayer.helper import f\n\ndef stage():\n    return f()\n')
    (package / "helper.py").write_text("def f():\n    return 1\n")
    (package / "sections.py").write_text("default = 1\n")
    monkeypatch.setattr(module, "LAYERS", (*module.LAYERS, "fakelayer"))
    monkeypatch.setattr(module, "MEMORY", tmp_path / "memory" / "fingerprint.json")
    _forget()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield package
    for name in [name for name in sys.modules if name.startswith("fakelayer")]:
        del sys.modules[name]
    _forget()


def _forget() -> None:
    for function in (module.fingerprint, module._source, module._read, module._memory):
        function.cache_clear()


def _now() -> str:
    _forget()
    return fingerprint("fakelayer.stage:stage")


def test_comments_and_docstrings_do_not_count(house: Path) -> None:
    before = _now()
    text = '"""Other."""\nfrom fakelayer.helper import f\n\n# why\ndef stage():\n\n    return f()\n'
    (house / "stage.py").write_text(text)
    assert _now() == before


def test_code_further_down_counts(house: Path) -> None:
    before = _now()
    (house / "helper.py").write_text("def f():\n    return 2\n")
    assert _now() != before


def test_recipe_sections_do_not_count(house: Path) -> None:
    (house / "stage.py").write_text("from fakelayer.sections import default\n\ndef stage():\n    return default\n")
    before = _now()
    (house / "sections.py").write_text("default = 2\n")
    assert _now() == before


@pytest.mark.parametrize(
    "importing",
    [
        "from fakelayer.deep.renamed import f",
        "from fakelayer.deep import renamed\nf = renamed.f",
    ],
)
def test_where_a_file_lies_does_not_count(house: Path, importing: str) -> None:
    plain = importing.replace("fakelayer.deep.renamed", "fakelayer.helper").replace("fakelayer.deep", "fakelayer")
    plain = plain.replace("import renamed", "import helper as renamed")
    stage = "import json\n{}\n\ndef stage():\n    return f(), 'fakelayer.{}:f'\n"
    (house / "stage.py").write_text(stage.format(plain, "helper"))
    before = _now()
    (house / "deep").mkdir()
    (house / "deep" / "__init__.py").write_text('"""A package."""\n')
    (house / "helper.py").rename(house / "deep" / "renamed.py")
    (house / "stage.py").write_text(stage.format(importing, "deep.renamed"))
    assert _now() == before
    (house / "deep" / "renamed.py").write_text("def f():\n    return 2\n")
    assert _now() != before


def test_taking_the_same_name_from_other_code_counts(house: Path) -> None:
    (house / "other.py").write_text("def f():\n    return 3\n")
    stage = "from fakelayer.helper import f\nfrom fakelayer.other import f as g\n\ndef stage():\n    return f() - g()\n"
    (house / "stage.py").write_text(stage)
    before = _now()
    (house / "stage.py").write_text(
        stage.replace("helper", "third").replace("other", "helper").replace("third", "other")
    )
    assert _now() != before


def test_older_schemes_cannot_be_compared(house: Path) -> None:
    _forget()
    entrypoint = "fakelayer.stage:stage"
    assert not has_changed(fingerprint(entrypoint), entrypoint)
    assert not has_changed("0123456789abcdef", entrypoint)
    assert has_changed("v2-0123456789abcdef", entrypoint)


def test_imports_inside_functions_and_launch_targets_are_reached() -> None:
    reached = reached_modules("model.training.pretrain")
    assert {"model.training.trainer", "model.architecture.transformer", "pipeline.tokens.reader"} <= set(reached)
    assert "infra.events" not in reached
    assert "model.sections" not in reached


def test_parsing_that_another_thread_disturbed_is_repeated(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython 3.11 then raises SystemError; seen once, in a flow of Prefect."""
    calm, parse, calls = fingerprint("fakelayer.stage:stage"), ast.parse, iter(range(100))

    def disturbed(text: str) -> ast.Module:
        if next(calls) % 2 == 0:
            raise SystemError("AST constructor recursion depth mismatch (before=60, after=74)")
        return parse(text)

    _forget()
    module.MEMORY.unlink()
    monkeypatch.setattr(ast, "parse", disturbed)
    assert fingerprint("fakelayer.stage:stage") == calm


def test_files_that_have_not_changed_are_parsed_once(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, parse, parsed = _now(), module._parse, []

    def counted(source: Path) -> ast.Module:
        parsed.append(source.name)
        return parse(source)

    monkeypatch.setattr(module, "_parse", counted)
    assert _now() == before
    assert parsed == []
    (house / "helper.py").write_text("def f():\n    return 22\n")
    after = _now()
    assert parsed == ["helper.py"]
    assert after != before
    module.MEMORY.write_text("{")
    assert _now() == after
    assert set(parsed[1:]) == {"helper.py", "stage.py"}


def test_looking_imports_nothing() -> None:
    """`plan` asks for the fingerprints of all stages; importing torch for that took most of its time."""
    code = (
        "import sys; from infra.fingerprint import fingerprint; fingerprint('model.training.pretrain:pretrain'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
