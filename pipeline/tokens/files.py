"""The files of a tokenizer in a folder of Hugging Face's layout."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["TOKENIZER_FILES", "copy_tokenizer"]

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def copy_tokenizer(source: Path, target: Path, *others: str) -> None:
    """Copy those of the folder `source` that are there, and `others` likewise, to the folder `target`."""
    for name in (*TOKENIZER_FILES, *others):
        if (source / name).exists() and source.resolve() != target.resolve():
            shutil.copyfile(source / name, target / name)
