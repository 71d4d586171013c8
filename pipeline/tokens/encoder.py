"""Text to token ids, as a document of a corpus has them: no control token comes out of text.

A tokenizer with the pre-tokenization of `pipeline.tokens.tokenizer` is run by `pipeline.tokens.pretokenise`, which
gives the same ids much sooner; `agrees` compares the two on texts at hand, and who finds that they differ asks for the
plain one. Any other tokenizer is run by the tokenizers library.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infra.errors import UserError
from pipeline.tokens.plain_text import After, PlainText
from pipeline.tokens.pretokenise import PieceTable

if TYPE_CHECKING:
    from tokenizers import AddedToken

__all__ = ["Encoder", "kept_encoder"]


class Encoder:
    """Encodes batches with the tokenizer of a folder.

    Args:
        folder: of a Hugging Face tokenizer.
        threads: for the tokenizers library; the ids do not depend on it.
        plain: leave the work to the tokenizers library in any case.

    Raises:
        UserError: the folder's settings name no usable end-of-sequence token.
    """

    def __init__(self, folder: Path, threads: int = 1, plain: bool = False) -> None:
        from tokenizers import Tokenizer

        # Read by the tokenizers library when its thread pool starts.
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
        self.folder = folder
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # "<|eos|>" in a web page is seven ordinary characters.
        self.tokenizer.encode_special_tokens = True
        self.vocabulary = self.tokenizer.get_vocab_size()
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        token = settings.get("eos_token")
        token = token["content"] if isinstance(token, dict) else token
        eos = self.tokenizer.token_to_id(token) if token else None
        if eos is None:
            raise UserError(f"{folder / 'tokenizer_config.json'}: no usable eos_token; name one of the vocabulary")
        self.eos: int = eos
        self.fast = not plain and self._is_known()

    def token(self, content: str) -> int:
        """The id of a control token.

        Raises:
            UserError: the vocabulary lacks it.
        """
        found = self.tokenizer.token_to_id(content)
        if found is None:
            raise UserError(f"{self.folder / 'tokenizer.json'}: lacks {content}, which the shards are to use")
        return int(found)

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, uint32."""
        if not self.fast:
            return self.slowly(texts)
        return [
            self.slowly([text])[0] if any(token in text for token in self._visible) else self._pieces.encode(text)
            for text in texts
        ]

    def slowly(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text as the tokenizers library finds them."""
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        found = [np.asarray(encoding.ids, dtype=np.uint32) for encoding in encodings]
        if self._mergeable.size:
            for place, ids in enumerate(found):
                if np.isin(ids, self._mergeable).any():
                    found[place] = np.asarray(self._plain(texts[place], After.NOTHING), dtype=np.uint32)
        return found

    def inside(self, text: str) -> list[int]:
        """The ids of text that goes on behind other text."""
        return self._plain(text, After.TEXT)

    def agrees(self, texts: Iterable[str]) -> bool:
        """Whether both ways give the same ids for each of `texts`."""
        return all(np.array_equal(self([text])[0], self.slowly([text])[0]) for text in texts)

    def _is_known(self) -> bool:
        """Whether the tokenizer is a BPE whose pre-tokenization is the project's own, and nothing besides."""
        from pipeline.tokens.own_split import pre_tokenizer

        state = json.loads(self.tokenizer.to_str())
        model = state["model"]
        return (
            model["type"] == "BPE"
            and not model["dropout"]
            and state["normalizer"] is None
            and json.loads(self.tokenizer.pre_tokenizer.__getstate__()) == json.loads(pre_tokenizer().__getstate__())
        )

    @cached_property
    def _plain(self) -> PlainText:
        special = {number: token.content for number, token in self._added.items() if token.special}
        return PlainText(self.tokenizer, special)

    @cached_property
    def _mergeable(self) -> np.ndarray:
        """Special tokens that the model makes of their text, as those do that have them among their pieces."""
        from tokenizers import Tokenizer

        alone = Tokenizer(self.tokenizer.model)
        found = [
            number
            for number, token in self._added.items()
            if token.special and alone.encode(token.content, add_special_tokens=False).ids == [number]
        ]
        return np.asarray(found, dtype=np.uint32)

    @property
    def _added(self) -> dict[int, AddedToken]:
        return self.tokenizer.get_added_tokens_decoder()

    @cached_property
    def _visible(self) -> list[str]:
        """Added tokens that are found in text, whatever the pre-tokenization: the marks of the reasoning."""
        return [token.content for token in self._added.values() if not token.special]

    @cached_property
    def _pieces(self) -> PieceTable:
        from tokenizers import Tokenizer, pre_tokenizers

        alone = Tokenizer(self.tokenizer.model)
        alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

        def bpe(pieces: list[str]) -> list[list[int]]:
            return [encoding.ids for encoding in alone.encode_batch_fast(pieces, add_special_tokens=False)]

        return PieceTable(bpe)


def kept_encoder(folder: Path, threads: int = 1, plain: bool = False) -> Encoder:
    """The encoder of `folder` that this process made before, or a new one.

    A process tokenises many files: what it learnt of pieces from one serves the next, and the tokenizers library does
    not give back all memory of a tokenizer that is let go (some 4 MB each).
    """
    state = (folder / "tokenizer.json").stat()
    return _kept(folder, threads, plain, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _kept(folder: Path, threads: int, plain: bool, *_state: int) -> Encoder:
    return Encoder(folder, threads, plain)
