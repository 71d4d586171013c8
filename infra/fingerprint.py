"""Which code a stage is: a digest of the source that its entry point reaches, and the versions of what it imports.

Only what the interpreter would run counts: the syntax tree without docstrings, comments and layout. Where a file lies
does not count: an import of the project's own code stands for the code that it brings, not for the name of a file, so
that files can be moved and renamed. Recipe sections are left out, because their values are in the identity already.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import importlib.util
import json
import platform
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from infra.durable import write_durably
from infra.hashing import digest, file_digest

__all__ = ["environment", "fingerprint", "has_changed", "packages", "reached_modules"]

LAYERS = ("infra", "pipeline", "model")
NOT_BYTES = frozenset(
    {"infra.events", "infra.errors", "infra.execution", "infra.section", "infra.launch", "infra.storage"}
)
"""Modules that cannot change what a stage writes: reporting, errors, and how processes are started."""
SCHEME = "v2-"
"""Begins every fingerprint. Raised when the digest is taken of something else: two schemes cannot be compared."""
MEMORY = Path(__file__).parent / "__pycache__" / "fingerprint.json"
"""Beside Python's own memory of the same files. Parsing a hundred of them takes most of a second."""
PAUSES = (0.01, 0.05, 0.2, 0.5)
"""Seconds before parsing again what another thread disturbed."""
RECORDED = (
    "torch",
    "deepspeed",
    "flash-attn",
    "flash-attn-3",
    "transformers",
    "tokenizers",
    "datatrove",
    "pyarrow",
    "numpy",
    "safetensors",
    "gguf",
    "chardetng-py",
    "charset-normalizer",
    "resiliparse",
    "backports.zstd",
    "babel",
    "ftfy",
    "reasoning-gym",
    "prefect",
    "mlflow",
)


@cache
def fingerprint(entrypoint: str) -> str:
    """Digest of all project source that ``module:function`` reaches through imports, at the top or inside functions."""
    known = len(_memory())
    modules = [_read(name) for name in reached_modules(entrypoint.split(":")[0])]
    found = SCHEME + digest(sorted({module.meaning() for module in modules if module.code}))[:16]
    if len(_memory()) > known:
        _remember()
    return found


def has_changed(recorded: str, entrypoint: str) -> bool:
    """Whether the code is another than the one whose fingerprint was recorded.

    A fingerprint of an older scheme tells nothing of today's code, so it counts as unchanged.
    """
    return recorded.startswith(SCHEME) and recorded != fingerprint(entrypoint)


def reached_modules(module: str) -> list[str]:
    """Names of the project's modules that `module` imports, itself included, sorted."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen or _is_left_out(name):
            continue
        if _source(name) is None:
            continue
        seen.add(name)
        waiting += _read(name).imports
    return sorted(seen)


@cache
def _source(name: str) -> Path | None:
    """The file of a module of the project; None for what is none. `find_spec` of a name with dots would import what is
    before the last dot, torch with it."""
    top, *below = name.split(".")
    spec = importlib.util.find_spec(top) if top in LAYERS else None
    for folder in spec.submodule_search_locations or () if spec else ():
        place = Path(folder, *below)
        for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if path.is_file() and (below or path.name == "__init__.py"):
                return path
    return None


def _parse(source: Path) -> ast.Module:
    """The syntax tree. CPython 3.11 counts the depth of all threads' trees together (its issue 106905): where another
    thread makes one in the middle of this, as happened in a flow of Prefect, it refuses."""
    text = source.read_text(encoding="utf-8")
    for pause in PAUSES:
        with contextlib.suppress(SystemError):
            return ast.parse(text)
        time.sleep(pause)
    return ast.parse(text)


@dataclass(frozen=True)
class _Module:
    """What the fingerprint takes from a file."""

    imports: tuple[str, ...]
    """Dotted names that may be modules of the project."""
    references: frozenset[tuple[str, str, str]]
    """What is taken from the project: module, name in it (empty for the module itself), and what it is called here."""
    code: str
    """Digest of its code, without docstrings and without what names another file of the project; empty if none."""

    def meaning(self) -> str:
        """Digest of its code and of the code behind each reference."""
        return digest([self.code, sorted([_code_of(module), *names] for module, *names in self.references)])


def _code_of(name: str) -> str:
    return "" if _is_left_out(name) or _source(name) is None else _read(name).code


def _is_left_out(name: str) -> bool:
    return name in NOT_BYTES or name.endswith(".sections")


class _Importless(ast.NodeTransformer):
    """Takes out docstrings, imports from the project and the names of launch targets, and keeps what those said."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.imports: list[str] = []
        self.references: set[tuple[str, str, str]] = set()

    def visit(self, node: ast.AST) -> ast.AST | None:
        seen = super().visit(node)
        for field in ("body", "orelse", "finalbody"):
            if isinstance(statements := getattr(seen, field, None), list):
                kept = [each for each in statements if not _is_bare_constant(each)]
                setattr(seen, field, kept or ([ast.Pass()] if field == "body" else []))
        return seen

    def visit_Import(self, node: ast.Import) -> ast.Import | None:  # ast's name
        self.imports += [alias.name for alias in node.names]
        ours = [alias for alias in node.names if _source(alias.name)]
        self.references |= {(alias.name, "", alias.asname or "") for alias in ours}
        node.names = [alias for alias in node.names if alias not in ours]
        return node if node.names else None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        if node.level or not node.module:
            return node
        whole = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        self.imports += [node.module, *whole.values()]
        if node.module.split(".")[0] not in LAYERS:
            return node
        for alias in node.names:
            here = alias.asname or alias.name
            is_module = _source(whole[alias.name]) is not None
            self.references.add((whole[alias.name], "", here) if is_module else (node.module, alias.name, here))
        return None

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        # launch("model.training.pretrain:run_rank", ...) names its target in a string
        name, colon, target = node.value.partition(":") if isinstance(node.value, str) else ("", "", "")
        if not colon or not name.replace(".", "_").isidentifier() or name.split(".")[0] not in LAYERS:
            return node
        if name != self.module:
            self.imports.append(name)
            self.references.add((name, target, "launch"))
        return ast.Constant(f":{target}")


def _is_bare_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@cache
def _read(name: str) -> _Module:
    source = _source(name)
    assert source is not None
    status = source.stat()
    key = f"{name}|{source}|{status.st_size}|{status.st_mtime_ns}"
    known = _memory()
    if key not in known:
        known[key] = _taken(name, source)
    return known[key]


@cache
def _memory() -> dict[str, _Module]:
    """What was taken from each file, by its name, place, size and modification time; from earlier processes too."""
    try:
        kept = json.loads(MEMORY.read_bytes())
        if kept["by"] != _reader():
            return {}
        return {
            key: _Module(tuple(imports), frozenset((a, b, c) for a, b, c in references), code)
            for key, (imports, references, code) in kept["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _remember() -> None:
    files = {key: [each.imports, sorted(each.references), each.code] for key, each in _memory().items()}
    with contextlib.suppress(OSError):  # an installation that cannot be written to is read each time
        MEMORY.parent.mkdir(exist_ok=True)
        write_durably(MEMORY, json.dumps({"by": _reader(), "files": files}).encode())


def _reader() -> str:
    """Which code read the files, on which Python: another one may take something else from them."""
    return f"{platform.python_version()} {SCHEME} {file_digest(Path(__file__))}"


def _taken(name: str, source: Path) -> _Module:
    taken = _Importless(name)
    tree = _parse(source)
    taken.visit(tree)
    code = (
        "" if all(isinstance(node, ast.Pass) for node in tree.body) else digest(ast.dump(tree, annotate_fields=False))
    )
    return _Module(tuple(taken.imports), frozenset(taken.references), code)


def packages() -> dict[str, str]:
    """Installed versions of the packages whose code decides what a stage writes."""
    found = {}
    for name in RECORDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, str]:
    """The interpreter and the machine."""
    return {
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        "processor": _processor(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()
