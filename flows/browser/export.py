"""A folder that runs a registered model in a browser, on the visitor's own processor: ``deepmill export --browser``.

Any web server of plain files serves it. It holds the chat page, the very GGUF file that `deepmill serve` computes with,
in parts that hosts of plain files take, and llama.cpp as WebAssembly. ``model.json`` says what the page has to know:
the parts with the digests of their chunks, how the model is sampled, its card. The same version gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from flows.browser import CHAT_PAGE, DEVICE_PAGE
from flows.browser.wllama import LLAMA_CPP, write_wllama
from flows.registry.audit import audit
from flows.registry.files import WEIGHTS, VersionFiles
from flows.registry.names import absent, parse_name, registered_version
from infra.errors import DeepmillError, UserError
from infra.facts import Facts
from infra.hashing import digest, file_digest, tree_files
from infra.json_objects import read_object
from infra.settings import Settings
from infra.tracking import registry_client
from infra.units import size

__all__ = ["FACTS", "BrowserFacts", "BrowserFile", "Exported", "Part", "export_for_browser", "follow_champion"]

FACTS = "model.json"
CHUNK = 4 << 20
"""Bytes of which the page computes a digest at a time: what a phone has at hand."""
MOST_PART = 512 << 20
"""Bytes of a part: what browsers keep, and hosts of plain files take."""
MOST_BYTES = 2 << 30
"""Of a model: a browser gives WebAssembly 4 GiB in all, and phones less."""
CONTEXT = 4096
"""Most tokens of prompt and answer, as `deepmill serve` has it."""
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' blob: 'wasm-unsafe-eval'",
        "worker-src 'self' blob:",
        "connect-src 'self' blob:",
        "img-src 'self' data:",
    )
)
"""What the page may load: nothing from elsewhere."""
HEAD = f"""<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="theme-color" content="#2a6657">
<link rel="manifest" href="manifest.webmanifest">
<link rel="apple-touch-icon" href="chat/icon-192.png">
"""
UNSERVED = """<p class="empty">This page wants a web server: in its folder run <code>python3 -m http.server 8000</code>
and open <a href="http://127.0.0.1:8000">http://127.0.0.1:8000</a>.</p>"""
"""What stands there until the page's scripts run, which browsers forbid to files that were opened as such."""
README = """{label} in a browser

The model runs on the visitor's own device; this folder holds all that it takes.

Here:           python3 -m http.server 8000 --bind 127.0.0.1
                then open http://127.0.0.1:8000
On a phone:     put the folder on any web server with https, open the page, and choose "Add to Home Screen".
From a stick:   the same command in this folder. (A browser runs no page of this kind that is opened as a file.)

After the first visit the page works without a network. Servers need no settings: the page sets the headers that threads
want by itself, in its service worker. Over http without TLS, other than on the same machine, it runs on one thread and
keeps nothing.

engine/ is wllama (MIT, engine/LICENCE), llama.cpp {llama_cpp} compiled to WebAssembly.
"""


class Part(Facts):
    """One file that holds all or a part of another."""

    path: str
    bytes: int
    digests: list[str]
    """SHA-256 of each `BrowserFacts.chunk` bytes."""


class BrowserFile(Facts):
    """A file that the page fetches and keeps by itself."""

    type: str
    """Its media type."""
    parts: list[Part]
    """In order; joined, they are the file."""


class BrowserFacts(Facts):
    """All of ``model.json``."""

    name: str
    version: str
    label: str
    sha256: str
    """Of the GGUF file."""
    card: str
    """Markdown."""
    context: int
    temperature: float
    top_p: float
    begun: str
    """What the prompt has begun of the answer: ``<think>``, or nothing."""
    control: list[str]
    """Names of control tokens, which no text may hold."""
    engine: str
    chunk: int
    files: dict[str, BrowserFile] = Field(default_factory=dict)


@dataclass(frozen=True)
class Exported:
    """What was written."""

    label: str
    folder: Path
    bytes: int


def export_for_browser(settings: Settings, model: str, target: Path) -> Exported:
    """Write ``MODEL@ALIAS`` or ``MODEL/VERSION`` into `target`, in place of an earlier export.

    Raises:
        UserError: there is no such version, its files are damaged, llama.cpp cannot compute it, wllama cannot be
            fetched, or `target` holds something else.
    """
    _check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        folder = Path(scratch) / "folder"
        label = _write(settings, model, folder)
        written = sum((folder / file).stat().st_size for file in tree_files(folder))
        if target.exists():
            target.rename(Path(scratch) / "before")
        folder.rename(target)  # nobody is served half of it
    return Exported(label, target, written)


def follow_champion(settings: Settings, model: str, version: str, target: Path) -> str:
    """Write a version into `target` unless it is there; one line that says what was done.

    For the end of a run: what was released stands, whatever becomes of the folder.
    """
    label = f"{model}/{version}"
    try:
        if (target / FACTS).is_file() and read_object(target / FACTS).get("label") == label:
            return f"{target} has {label} already"
        done = export_for_browser(settings, label, target)
    except (DeepmillError, OSError) as error:
        return f"{target}: {label} was not written for browsers: {error}"
    return f"{target} has {label} for browsers now, {size(done.bytes)}"


def _check_target(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise UserError(f"{target}: a file is there; name a folder")
    if target.is_dir() and any(target.iterdir()) and not ((target / FACTS).is_file() and (target / "sw.js").is_file()):
        raise UserError(f"{target}: holds something else than an earlier export; name a new or an empty folder")


def _write(settings: Settings, model: str, folder: Path) -> str:
    write_wllama(folder / "engine")
    facts = _write_model(settings, model, folder)
    for name, file, kind in (
        ("wasm", "wllama.wasm", "application/wasm"),
        ("compat_wasm", "compat.wasm", "application/wasm"),
        ("compat_worker", "compat.js", "text/javascript"),
    ):
        facts.files[name] = BrowserFile(type=kind, parts=[_part(folder, folder / "engine" / file)])
    _write_page(folder, facts)
    return facts.label


def _write_model(settings: Settings, model: str, folder: Path) -> BrowserFacts:
    """The GGUF file in parts, and what is to be known of it."""
    from model.architecture.checkpoint import load_config
    from model.release.gguf import unsupported
    from model.serving.defaults import sampling_defaults
    from model.serving.gguf_file import gguf_file
    from pipeline.tokens.chat import chat_format, read_tokenizer

    client, name = registry_client(settings), parse_name(model)
    number = name.version or audit(settings, name.model, name.alias).version
    if number is None:
        raise absent(client, name)
    cache, label = settings.local_root / "serving", f"{name.model}/{number}"
    files, _ = VersionFiles(client, settings, name.model, number).fetch(cache / f"{name.model}-{number}" / "files")
    weights = files / WEIGHTS
    config, chat, sampled = load_config(weights), chat_format(read_tokenizer(weights)), sampling_defaults(weights)
    if reason := unsupported(config, weights):
        raise UserError(f"{label}: llama.cpp cannot compute it, so no browser can: {reason}")
    gguf = gguf_file(weights, label, cache)
    if (total := gguf.stat().st_size) > MOST_BYTES:
        raise UserError(f"{label}: {size(total)}, where a browser has room for {size(MOST_BYTES)}")
    return BrowserFacts(
        name=name.model,
        version=number,
        label=label,
        sha256=file_digest(gguf),
        card=registered_version(client, name.model, number).description or "",
        context=min(CONTEXT, config.max_position_embeddings),
        temperature=sampled.temperature,
        top_p=sampled.top_p,
        begun=chat.begun,
        control=list(chat.control),
        engine=f"llama.cpp {LLAMA_CPP}",
        chunk=CHUNK,
        files={"model": BrowserFile(type="application/octet-stream", parts=list(_parts(gguf, folder)))},
    )


def _parts(source: Path, folder: Path) -> Iterator[Part]:
    """`source` below `folder` in parts."""
    (folder / "model").mkdir()
    count = -(-source.stat().st_size // MOST_PART)
    with source.open("rb") as handle:
        for number in range(count):
            name = source.name if count == 1 else f"{source.name}.{number + 1:05d}-of-{count:05d}"
            with (folder / "model" / name).open("wb") as part:
                for _ in range(MOST_PART // CHUNK):
                    part.write(handle.read(CHUNK))
            yield _part(folder, folder / "model" / name)


def _part(folder: Path, path: Path) -> Part:
    with path.open("rb") as handle:
        digests = [hashlib.sha256(chunk).hexdigest() for chunk in iter(lambda: handle.read(CHUNK), b"")]
    return Part(path=path.relative_to(folder).as_posix(), bytes=path.stat().st_size, digests=digests)


def _write_page(folder: Path, facts: BrowserFacts) -> None:
    """The chat page with its own ways to answer, and the service worker that keeps it."""
    shutil.copytree(CHAT_PAGE, folder / "chat", ignore=shutil.ignore_patterns("chat.html"))
    shutil.copytree(DEVICE_PAGE, folder / "chat", ignore=shutil.ignore_patterns("sw.js"), dirs_exist_ok=True)
    page = (CHAT_PAGE / "chat.html").read_text(encoding="utf-8")
    for mark, more in (
        ("</head>", HEAD),
        ('</div>\n<p id="said"', UNSERVED),  # where the conversation will be
        ("</body>", '<script type="module" src="chat/card.js"></script>\n'),
    ):
        page = page.replace(mark, more + mark, 1)
    _text(folder / "index.html", page)
    _text(folder / "README.txt", README.format(label=facts.label, llama_cpp=LLAMA_CPP))
    _text(folder / "manifest.webmanifest", json.dumps(_manifest(facts), indent=1))
    _text(folder / FACTS, facts.model_dump_json(indent=1))
    kept = ["index.html", "manifest.webmanifest", FACTS, "engine/wllama.js"]
    kept += [f"chat/{path.name}" for path in sorted((folder / "chat").iterdir())]
    named = {"digest": digest({file: file_digest(folder / file) for file in kept}), "files": ["./", *kept]}
    worker = (DEVICE_PAGE / "sw.js").read_text(encoding="utf-8")
    _text(folder / "sw.js", f"const PAGE = {json.dumps(named)};\n{worker}")


def _manifest(facts: BrowserFacts) -> dict[str, object]:
    """What a phone asks of a page before it installs it."""
    icons = [{"src": f"chat/icon-{side}.png", "sizes": f"{side}x{side}", "type": "image/png"} for side in (192, 512)]
    names = {"name": facts.name, "short_name": facts.name.removeprefix("deepmill-"), "description": facts.label}
    colours = {"theme_color": "#2a6657", "background_color": "#fbfaf7"}
    return {**names, "start_url": "./", "scope": "./", "display": "standalone", **colours, "icons": icons}


def _text(path: Path, text: str) -> None:
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
