"""Gates that look at what is registered, beside those that look at its numbers: are the files still the ones that were
judged, and does the card say what a user must know?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.recipe.sections import PromoteConfig
from flows.registry.gates import Gate
from flows.registry.names import download
from infra.hashing import file_digest

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["evidence_gates", "file_digests"]


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a model's folder, by its path there."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def evidence_gates(
    config: PromoteConfig, client: MlflowClient, name: str, version: str, facts: dict[str, Any]
) -> list[Gate]:
    """Checksums and card of a version; none for one that was registered before checksums were kept (no ``files``).

    Raises:
        UserError: the files cannot be fetched.
    """
    if "files" not in facts:
        return []
    gates = []
    if config.check_files:
        with tempfile.TemporaryDirectory() as scratch:
            found = file_digests(download(client, name, version, Path(scratch)))
        wanted: dict[str, str] = facts["files"]
        wrong = sorted(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))
        which = f" ({', '.join(wrong[:3])})" if wrong else ""
        gates.append(Gate("checksums", not wrong, len(wrong), 0, f"files that are not as registered{which}, at most"))
    if config.require_card:
        from model.release.card import NO_LICENCE, missing_sections

        card = client.get_model_version(name, version).description or ""
        missing = missing_sections(card)
        if config.require_licence and NO_LICENCE in card:
            missing.append("licence")
        which = f" ({', '.join(missing)})" if missing else ""
        gates.append(Gate("card", not missing, len(missing), 0, f"sections that the model card lacks{which}, at most"))
    return gates
