"""Gates that look at what is registered, beside those that look at its numbers: are the files still the ones that were
judged, and does the card say what a user must know?"""

from __future__ import annotations

from flows.recipe.sections import PromoteConfig
from flows.registry.files import VersionFiles
from flows.registry.gates import Gate
from flows.registry.names import registered_version

__all__ = ["REMOVAL", "evidence_gates", "removal_gates"]

REMOVAL = "deepmill.removal."
"""Begins the tags of a version that name requests for removal: its training text had the documents."""


def evidence_gates(config: PromoteConfig, files: VersionFiles) -> list[Gate]:
    """Checksums and card of a version; none for one that was registered before checksums were kept.

    Raises:
        UserError: the files cannot be reached.
    """
    if files.recorded() is None:
        return []
    gates = []
    if config.check_files:
        wrong = [each.path for each in files.damage() or ()]
        which = f" ({', '.join(wrong[:3])})" if wrong else ""
        gates.append(Gate("checksums", not wrong, len(wrong), 0, f"files that are not as registered{which}, at most"))
    if config.require_card:
        from model.release.card import NO_LICENCE, missing_sections

        card = registered_version(files.client, files.model, files.version).description or ""
        missing = missing_sections(card)
        if config.require_licence and NO_LICENCE in card:
            missing.append("licence")
        which = f" ({', '.join(missing)})" if missing else ""
        gates.append(Gate("card", not missing, len(missing), 0, f"sections that the model card lacks{which}, at most"))
    return gates


def removal_gates(config: PromoteConfig, files: VersionFiles) -> list[Gate]:
    """The requests for removal that a version's training did not heed; no gate where there are none."""
    tags = registered_version(files.client, files.model, files.version).tags
    asked = sorted(text for key, text in tags.items() if key.startswith(REMOVAL))
    if not asked or not config.check_removals:
        return []
    text = f"requests to remove documents that its training text has ({', '.join(asked[:3])}), at most"
    return [Gate("removal", False, len(asked), 0, text)]
