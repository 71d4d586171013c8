"""What tokens say behind others, as a model's answer behind its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.tokens.sentencepiece import BLANK, BYTES, is_in_pieces

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["ContinuationDecoder"]


class ContinuationDecoder:
    """Decodes tokens that go on behind others.

    A decoder of SentencePiece's kind drops the blank that a text begins with, and makes a whole run of single bytes
    unreadable while its last character is not complete: here the blank stays, and what was readable is.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._in_pieces = is_in_pieces(tokenizer)
        added = tokenizer.get_added_tokens_decoder()
        self._special = {number for number, token in added.items() if token.special}
        self._added = {number: token.content.encode() for number, token in added.items()}

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text."""
        if not self._in_pieces:
            return self._tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens)
        shown = (token for token in tokens if not (skip_special_tokens and token in self._special))
        return b"".join(map(self.bytes_of, shown)).decode(errors="replace")

    def bytes_of(self, token: int) -> bytes:
        """What one token adds to a text; of a byte-level one that is no whole character, the replacement character."""
        if not self._in_pieces:
            return self._tokenizer.decode([token], skip_special_tokens=False).encode()
        if token in self._added:
            return self._added[token]
        piece = self._tokenizer.id_to_token(token) or ""
        return bytes([_BYTE_OF[piece]]) if piece in _BYTE_OF else piece.replace(BLANK, " ").encode()


_BYTE_OF = {piece: byte for byte, piece in enumerate(BYTES)}
