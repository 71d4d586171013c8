"""The dataset card of token shards: `README.md`, with the front matter that Hugging Face `datasets` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.tokens.card import ShardsCard
from pipeline.tokens.packing import Tokenised
from pipeline.tokens.tokenise import SPLITS

__all__ = ["write_readme"]


def write_readme(card: ShardsCard, tokenised: Tokenised, out_dir: Path) -> None:
    """Write the card of the shards that `card` (shards.json) describes."""
    filled = [split for split in SPLITS if any(entry.rows for entry in card.splits[split].values())]
    lines = [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files:",
        *(line for split in filled for line in (f"  - split: {split}", f'    path: "{split}/*.parquet"')),
        "---",
        "# Token shards",
        "",
        f"Rows of {card.sequence_length} tokens ({card.dtype}, little-endian) of a vocabulary of "
        f"{card.vocabulary}; documents end with token {card.eos}, and may go on in the next row. No row mixes "
        "sources. `documents` and `offsets` say which documents a row holds and where each begins; `index/` names "
        "them.",
        "",
        "| source | split | documents | rows | tokens | left over |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for source in sorted(card.splits["train"]):
        for split in SPLITS:
            entry = card.splits[split][source]
            numbers = (entry.documents, entry.rows, entry.tokens, entry.tokens_dropped)
            lines.append(f"| {source} | {split} | " + " | ".join(f"{number:,}" for number in numbers) + " |")
    lines += [
        "",
        "Tokens of a document, end included: half, nine tenths and 99 of 100 documents are no longer than the power of "
        "two given.",
        "",
        "| source | documents | 50 % | 90 % | 99 % | longest |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for source in tokenised.sources:
        bins = np.sum([task.lengths[source] for task in tokenised.tasks if source in task.lengths], axis=0)
        reached = np.cumsum(bins) / bins.sum()
        marks = [1 << int(np.argmax(reached >= share)) for share in (0.5, 0.9, 0.99, 1.0)]
        lines.append(f"| {source} | {int(bins.sum()):,} | " + " | ".join(f"{mark:,}" for mark in marks) + " |")
    tokens = max(1, tokenised.tokens)
    lines += ["", f"{card.text_bytes:,} bytes of text, {card.text_bytes / tokens:.3f} bytes per token.", ""]
    (out_dir / "README.md").write_text("\n".join(lines), encoding="utf-8")
