"""ftfy as datatrove configures it, asked only about lines in which it could find something to mend.

ftfy works line by line and costs some 50 microseconds for each. It changes a line only for an entity, an escape, a
control character, half of a surrogate pair, or where its own measure of badness says that bytes were decoded wrongly,
which it never says of a single dash or quote among ASCII. A line without any of these is passed by.
"""

from __future__ import annotations

import re

import ftfy
from datatrove.pipeline.formatters.ftfy import FTFYFormatter
from ftfy.badness import is_bad
from ftfy.chardata import CONTROL_CHARS
from ftfy.fixes import unescape_html

__all__ = ["FastFTFY"]

_ALWAYS = "&\x1b\x7f-\x9f\ud800-\udfff" + "".join(map(re.escape, map(chr, CONTROL_CHARS)))
MENDED = re.compile(f"[{_ALWAYS}]")
"""What ftfy mends besides wrong decodings."""
SUSPECT = re.compile(rf"[{_ALWAYS}\x80-\U0010ffff](?:(?<=[{_ALWAYS}ŒœÃÂ])|[^\x00-\x7f])")
"""What a line that ftfy may change has at least one of: all that its measure of badness finds is one of these letters,
or holds two characters side by side that are not ASCII (`ftfy.badness.BADNESS_RE`)."""
SEGMENT = 1_000_000
"""Characters of a line that ftfy looks at together."""


MOST_PASSES = 16
"""Entities within entities (`&amp;amp;lt;`): ftfy takes a pass over the line for each."""


def _check_depth(line: str) -> None:
    """ValueError where entities are nested beyond all reason, which would take ftfy the square of the line's length."""
    for _ in range(MOST_PASSES):
        before, line = line, unescape_html(line)
        if line == before:
            return
    raise ValueError(f"entities nested more than {MOST_PASSES} deep")


class FastFTFY(FTFYFormatter):
    """datatrove's formatter with its own settings; `format` gives the same text, or leaves entities as they are."""

    def __init__(self, unescape_html: bool = True) -> None:
        super().__init__()
        self._before_a_tag = self.config._replace(explain=False)
        if not unescape_html:
            self._before_a_tag = self._before_a_tag._replace(unescape_html=False)
        self._after_a_tag = self._before_a_tag._replace(unescape_html=False)

    def format(self, text: str) -> str:
        """The text with what was decoded wrongly mended; entities are unescaped up to the line of the first `<`."""
        pieces: list[str] = []
        kept = done = 0  # in `pieces` up to `kept`, looked at up to `done`
        config = self._before_a_tag
        unescapes = bool(config.unescape_html)
        suspect = SUSPECT.search(text)
        while suspect:
            begin = text.rfind("\n", done, suspect.start()) + 1 or done
            end = text.find("\n", suspect.start()) + 1 or len(text)
            if config is self._before_a_tag and "<" in text[done:begin]:
                config = self._after_a_tag
            line = text[begin:end]
            if unescapes and config is self._before_a_tag and "&" in line:
                _check_depth(line)
            if MENDED.search(line) or len(line) > SEGMENT or is_bad(line):
                pieces += text[kept:begin], ftfy.fix_text(line, config)
                kept = end
            if "<" in line:
                config = self._after_a_tag
            done = end
            suspect = SUSPECT.search(text, end)
        return "".join([*pieces, text[kept:]]) if pieces else text
