"""A command line that cannot be understood is answered in one line, with the nearest right name and status 2."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
import typer

from flows.cli import EXAMPLES, app, main
from tests.flows.prepared import prepare_mlflow

COMMANDS = sorted(command.name or command.callback.__name__ for command in app.registered_commands if command.callback)


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """What the installed entry point says on standard error, in this process."""
    (script,) = entry_points(group="console_scripts", name="deepmill")
    monkeypatch.setattr(sys, "argv", ["deepmill", *arguments])
    with pytest.raises(SystemExit) as left:
        script.load()()
    told = capsys.readouterr()
    assert left.value.code == 2
    assert told.out == ""
    assert told.err.count("\n") == 1
    return told.err.rstrip("\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_of_every_command(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = refused(capsys, monkeypatch, command, "--xyzzy")
    assert told == f"error deepmill {command}: no such option --xyzzy; see deepmill {command} --help"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("frobnicate",), "error deepmill: no such command frobnicate; see deepmill --help"),
        (("statsu",), "error deepmill: no such command statsu; did you mean status?"),
        (("--verison",), "error deepmill: no such option --verison; did you mean --version?"),
        (("run", "--rot", "x"), "error deepmill run: no such option --rot; did you mean --root?"),
        (("run", "a", "b"), "error deepmill run: got unexpected extra argument(s) (b); see deepmill run --help"),
        (
            ("serve", "--port", "99999"),
            "error deepmill serve: invalid value for '--port': wants 65535 or less; see deepmill serve --help",
        ),
        (
            ("status", "--limit", "0"),
            "error deepmill status: invalid value for '--limit': wants 1 or more; see deepmill status --help",
        ),
        (("promote",), "error deepmill promote: missing argument 'model'; see deepmill promote --help"),
        (("gc", "--keep-runs"), "error deepmill: option '--keep-runs' requires an argument; see deepmill --help"),
    ],
)
def test_other_slips(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refused(capsys, monkeypatch, *arguments) == told


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_are_not_shown_as_if_they_took_a_value(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    app([command, "--help"], standalone_mode=False)
    told = capsys.readouterr().out
    assert "--help" in told
    assert "<bool>" not in told


@pytest.mark.parametrize(
    ("arguments", "told"), [((), "explain"), (("--version",), f"deepmill {version('deepmill')}\n")]
)
def test_without_a_command(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["deepmill", *arguments])
    main()
    said = capsys.readouterr()
    assert told in said.out
    assert said.err == ""


def _assert_refused(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that begins so, and the exit status of a mistake."""
    monkeypatch.setattr(sys, "argv", ["deepmill", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error {told}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("report",), "no run in store yet: deepmill run sample"),
        (("duplicates",), "no run in store yet: deepmill run sample"),
        (("report", "x"), "x: no such run in store; see deepmill status"),
        (("schema", "--to", "nowhere/x.json"), "nowhere/x.json: No such file or directory; check the path, and"),
        (("report", "--root", "file"), "file: no folder; name the folder of a store with --root"),
        (("schema", "--to", "file/x.json"), "file/x.json: a file, where a folder should be; name another path"),
        (("run", "deepseek-moe-16b"), "deepseek-moe-16b: extract.sources names no text; deepmill new FOLDER writes"),
        (("doctor", "--device", "my.gguf"), "my.gguf: no such file; name one, a folder that holds one, or MODEL@ALIAS"),
        (
            ("doctor", "--device", "file"),
            "file: not a readable GGUF file (ValueError: cannot mmap an empty file); name",
        ),
        (
            ("doctor", "--device", "file", "--memory", "64"),
            "--memory 64: 64 bytes, where no model fits; write it as 64",
        ),
        (("schema", "--to", "."), ".: Is a directory; check the path, and who may write there"),
        (("plan",), "data/sample/wiki: not gathered yet; deepmill run sample does so"),
        (("plan", "."), ".: a folder; deepmill new . writes a recipe for what lies in it"),
        (("serve", "nobody"), "nobody@champion: not in the registry; see deepmill models"),
        (("rollback", "nobody"), "nobody: no version is its champion; see deepmill models"),
    ],
)
def test_a_stranger_is_told_what_to_do(
    arguments: tuple[str, ...],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """In a folder where nothing was done yet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    if "nobody" in arguments:  # the registry is asked, whose database takes seconds to make
        prepare_mlflow(tmp_path / "store")
        capsys.readouterr()  # what making it says, where this test is the first to want one
    monkeypatch.setenv("DEEPMILL_ROOT", "store")
    _assert_refused(arguments, told, capsys, monkeypatch)


@pytest.mark.parametrize("command", ["status", "report", "duplicates", "rejects", "diff"])
def test_looking_makes_no_store(command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEEPMILL_ROOT", str(tmp_path / "mistyped"))
    monkeypatch.setattr(sys, "argv", ["deepmill", command])
    with contextlib.suppress(SystemExit):
        main()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "arguments", "told"),
    [
        ({"TRACKING_URI": "http://127.0.0.1:9"}, ("models",), "http://127.0.0.1:9: MLflow does not answer (Connection"),
        ({"TRACKING_URI": "http://255.255.255.255:9"}, ("models",), "http://255.255.255.255:9: MLflow does not answer"),
        ({"TRACKING_URI": "nonsense"}, ("models",), "DEEPMILL_TRACKING_URI: no address; write it as http://HOST:5000"),
        ({"RUNS_AT_ONCE": "many"}, ("up",), "DEEPMILL_RUNS_AT_ONCE: wants a whole number, not many; unset it"),
        ({"PREFECT_PORT": "99999"}, ("up",), "DEEPMILL_PREFECT_PORT: wants 65535 or less, not 99999; unset it"),
        ({"RECIPES": "sampel"}, ("up",), "sampel: no such recipe; did you mean sample?"),
        ({"TIMEZONE": "Mars"}, ("up",), "DEEPMILL_TIMEZONE=Mars: no time zone; name one as Europe/Berlin"),
        ({"CRON": "never"}, ("up",), "never: no schedule; write minute hour day month weekday"),
        ({}, ("serve", "./away"), "./away: no such file or folder; write the model as NAME@ALIAS"),
    ],
)
def test_settings_and_places_that_cannot_be(
    settings: dict[str, str],
    arguments: tuple[str, ...],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Told at once: nothing has begun."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    free = {"PREFECT_PORT": "0", "MLFLOW_PORT": "0", "PAGES_PORT": "0"}
    for name, value in {"ROOT": "store", **free, **settings}.items():
        monkeypatch.setenv(f"DEEPMILL_{name}", value)
    _assert_refused(arguments, told, capsys, monkeypatch)
    assert not (tmp_path / "store" / ".services").exists()


def test_a_fault_of_our_own_shows_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that nobody named."""
    monkeypatch.setattr(sys, "argv", ["deepmill", "schema", "--to", str(tmp_path / "x.json")])
    monkeypatch.setattr("flows.commands.recipes._schema", lambda: Path("/nowhere/ours").read_text())
    with pytest.raises(FileNotFoundError):
        main()


def test_an_object_store_without_credentials_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import NoCredentialsError

    said = "error the object store does not answer (Unable to locate credentials); check the address and AWS_*\n"
    assert _told_of(NoCredentialsError(), capsys, monkeypatch) == said


def test_a_prefect_that_nobody_started_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `prefect.client.orchestration` raises it when a flow begins."""
    told = _told_of(RuntimeError("Failed to reach API at http://127.0.0.1:9/api/"), capsys, monkeypatch)
    assert told.startswith("error Failed to reach API at http://127.0.0.1:9/api/; check PREFECT_API_URL, or unset it")
    assert told.count("\n") == 1


def _told_of(error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    def ask() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["deepmill", "schema"])
    monkeypatch.setattr("flows.commands.recipes._schema", ask)
    with pytest.raises(SystemExit):
        main()
    return capsys.readouterr().err


def test_a_value_of_the_wrong_type(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    told = refused(capsys, monkeypatch, "plan", "--per-node", "many")
    assert told.startswith("error deepmill plan: invalid value for '--per-node'")


def test_the_installed_script() -> None:
    script = Path(sys.executable).with_name("deepmill")
    ended = subprocess.run([script, "frobnicate"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error deepmill: no such command frobnicate; see deepmill --help\n"


def _written() -> Iterator[tuple[str, str]]:
    """Every command line that the documentation shows, with its file."""
    root = Path(__file__).parents[2]
    for path in [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("examples/**/*.md")]:
        text = path.read_text(encoding="utf-8")
        blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        shown = "".join(block for language, block in blocks if language in ("", "sh", "bash", "console", "text"))
        for line in [*re.findall(r"`([^`\n]+)`", text), *shown.replace("\\\n", " ").splitlines()]:
            if found := re.match(r"(?:\$ |[A-Z_]+=\S+ )*deepmill (.+?)(?: *[#;&|>].*)?$", line):
                yield f"{path.relative_to(root)}: {line}", found[1]
    for lines in EXAMPLES.values():
        yield from ((f"--help: {line}", line.removeprefix("deepmill ")) for line in lines)


def test_what_the_documentation_shows_exists() -> None:
    """Commands and their options."""
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    wrong, seen = [], set()
    for place, line in _written():
        command, *words = line.split()
        if command.startswith("--"):
            continue
        seen.add(command)
        parameters = known[command].params if command in known else ()
        options = {name for each in parameters for name in (*each.opts, *each.secondary_opts)} | {"--help"}
        given = {found[0] for word in words if (found := re.match(r"--?[a-z][a-z-]*", word))}
        if command not in known or not given <= options:
            wrong.append(place)
    assert wrong == []
    assert len(seen) > 20


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("expl", {"explain"}),
        ("run sam", {"sample"}),
        ("run recipes/", {"recipes/mine.yaml"}),
        ("explain grpo.kl", {"grpo.kl_weight"}),
        ("run sample --set grpo.warm", {"grpo.warmup_steps"}),
        ("report", {"report"}),
    ],
)
def test_a_shell_completes_it(typed: str, completed: set[str], tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text("{}")
    script = Path(sys.executable).with_name("deepmill")
    words = f"deepmill {typed}"
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(typed.split())), "_DEEPMILL_COMPLETE": "complete_bash"}
    found = subprocess.run([script], cwd=tmp_path, env=os.environ | asked, capture_output=True, text=True, check=True)
    assert set(found.stdout.split()) == completed
