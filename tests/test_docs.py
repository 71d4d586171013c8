"""What the documentation names is there: files, modules, recipe keys, targets, settings (commands: test_usage.py)."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

from tests.test_packages import ORDER

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    # the log of experiments tells of what was there when it was measured
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name != "experiments.md"),
]
FOLDERS = ("infra", "pipeline", "model", "flows", "bench", "tests", "examples", "docs")
NAME = rf"(?<![\w./<-])(?:{'|'.join(FOLDERS)})"
UNTOLD = ("__init__", "__main__", "finetune_sections")
ELSEWHERE = {
    "infra/deploy/compose.env",  # which its reader writes
    "model.json",  # a file of an export
    "model.predict",  # in Python that stands there
    "model.q_lora_rank",  # a key
    "tokenizer.model",  # a file of SentencePiece's
    "clean.min_words",  # the spelling of earlier versions
}


def code_of(page: Path) -> list[str]:
    """The pieces of a page that are code, blocks and words."""
    found = re.findall(r"```.*?```|`[^`\n]+`", page.read_text(encoding="utf-8"), re.DOTALL)
    return [each.strip("`") for each in found]


@cache
def is_there(name: str) -> bool:
    """Whether ``model.training.ranks.leave`` is a package, a module, or a name in one."""
    parts = name.split(".")
    if ROOT.joinpath(*parts).is_dir():
        return True
    for length in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:length])
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return length == len(parts) or bool(re.search(rf"\b{parts[-1]}\b", file.read_text(encoding="utf-8")))
    return False


@cache
def recipe_keys() -> set[str]:
    """All paths of keys and of what they are in; those of a stage's own execution as the parts before them."""
    from flows.recipe.keys import all_keys

    paths = [key.path.partition(".<")[0].split(".") for key in all_keys()]
    return {".".join(path[:length]) for path in paths for length in range(1, len(path) + 1)}


@cache
def settings() -> str:
    """Names of settings: fields of the classes that read them, and what other code asks the environment for."""
    from flows.run.server_settings import ServerSettings
    from infra.settings import Settings

    files = [
        file for folder in FOLDERS for file in (ROOT / folder).rglob("*") if file.suffix in (".py", ".yaml", ".sh")
    ]
    fields = [f"DEEPMILL_{name.upper()}" for name in (*Settings.model_fields, *ServerSettings.model_fields)]
    return "\n".join([*fields, *(file.read_text(encoding="utf-8", errors="replace") for file in files)])


def misnamed(page: Path) -> list[str]:
    """Files, modules, recipe keys and targets of the Makefile that a page names and that are not there."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    sections = {key for key in recipe_keys() if "." not in key}
    wrong: list[str] = []
    for code in code_of(page):
        paths = re.findall(rf"{NAME}/[\w./-]*\w/?(?![\w*<{{-])", code)
        wrong += [path for path in paths if not (ROOT / path).exists() and not re.search("[A-Z]{4}", path)]
        wrong += [
            name
            for name in re.findall(rf"{NAME}(?:\.\w+)+(?![\w/*-])", code)
            if name != "flows.py" and not is_there(name)
        ]
        key = re.fullmatch(r"([a-z_]+)(?:\.[a-z_]+)+(?<!\.py)(?<!\.json)(?<!\.html)", code)
        if key and key[1] in sections and code not in recipe_keys() and not code.startswith("execution.stages."):
            wrong.append(code)
        wrong += [name for name in re.findall(r"(?<![\w-])make ([a-z][\w-]*)", code) if name not in targets]
    return [name for name in wrong if name not in ELSEWHERE]


def test_files_modules_keys_and_targets() -> None:
    assert not [(page.name, wrong) for page in PAGES for wrong in misnamed(page)]


def test_what_code_says_of_other_code() -> None:
    """Files, modules and names in back-quotes; two of them stand around what others define."""
    files = [file for folder in FOLDERS[:5] for file in sorted((ROOT / folder).rglob("*.py"))]
    named = [
        (file.relative_to(ROOT), name)
        for file in files
        for name in re.findall(rf"(?<!`)`({NAME}[./][\w./]*\w)/?`(?!`)", file.read_text(encoding="utf-8"))
    ]
    assert len(named) > 150
    assert not [told for told in named if not ((ROOT / told[1]).exists() if "/" in told[1] else is_there(told[1]))]


def test_settings() -> None:
    named = [(page.name, re.findall(r"\bDEEPMILL_[A-Z_]+[A-Z]\b", page.read_text(encoding="utf-8"))) for page in PAGES]
    assert sum(len(names) for _, names in named) > 50
    assert not [(page, name) for page, names in named for name in names if name not in settings()]


def test_the_order_of_packages_is_told_as_it_is_held() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for layer, packages in ORDER.items():
        told = re.search(rf"^{layer} .*→.*$", text, re.MULTILINE)
        if layer != "infra":
            assert told
            names = [each for part in told[0].split("→") for each in part.split()[-1 if "," not in part else -2 :]]
            assert [name.strip(",") for name in names] == [name for name in packages if name not in UNTOLD]


def test_the_changelog_begins_with_the_packages_version_or_with_what_is_not_released_yet():
    heads = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    released = heads[1:] if heads[0] == "Unreleased" else heads
    assert released[0].startswith(f"{version} (")
