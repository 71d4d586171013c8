"""llama.cpp's name for the way a tokenizer cuts text into pieces, found by what the tokenizer does.

llama.cpp knows pre-tokenizers by name. Its converter finds the name of a published vocabulary by the ids of one probe
text; here the pieces of a probe are compared with those of every way that it knows, so that a vocabulary which nobody
published finds its name too. The regular expressions are those of llama.cpp's ``src/llama-vocab.cpp``. Left out are
``gpt-4o`` and ``tekken``: llama.cpp's own take no notice of combining marks, and cut Hindi or Khmer otherwise than the
tokenizers of that name do.
"""

from __future__ import annotations

import json
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from infra.json_objects import JsonObject
from pipeline.tokens.sentencepiece import inexpressible, is_in_pieces

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import PreTokenizer

__all__ = ["SENTENCEPIECE", "WAYS", "Way", "llama_name", "name_of", "pre_tokenizer_of", "unnamed"]

UNKNOWN_SPLIT = "llama.cpp knows no pre-tokenizer that cuts text as this tokenizer does"
REWRITES = "llama.cpp leaves text as it is before it cuts it, and this tokenizer writes it otherwise (its normalizer)"
SENTENCEPIECE = "llama"
"""The name of a tokenizer of SentencePiece's kind, which has scores and no pre-tokenizer."""

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
_DEEPSEEK_V3 = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+",
)
_DEEPSEEK_CODER = ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥\u0800-一가-\ud7ff]+", r"\p{N}")
OWN = "deepseek-llm"
"""The way of tokenizers trained here."""


class Way(NamedTuple):
    """A way to cut text."""

    name: str
    patterns: tuple[str, ...]
    """Each cuts the pieces that those before it left."""
    ignore_merges: bool = False
    """Whether a piece that is a token stays whole whatever the merges."""


WAYS = (
    Way("smollm", (r"\p{N}", _GPT2)),
    Way("gpt-2", (_GPT2,)),
    Way("llama-bpe", (_LLAMA3,), ignore_merges=True),
    Way("dbrx", (_LLAMA3,)),
    Way("qwen2", (_LLAMA3.replace("{1,3}", ""),)),
    Way("deepseek-v3", _DEEPSEEK_V3),
    Way("deepseek-coder", _DEEPSEEK_CODER),
)
SAME = {
    "smollm": ("starcoder", "command-r", "exaone", "minerva-7b", "refact"),
    "gpt-2": ("phi-2", "mpt", "olmo", "modern-bert", "exaone4", "roberta-bpe", "jina-v2-code"),
    "llama-bpe": ("llama3", "llama-v3", "falcon3", "lfm2", "pixtral"),
    "dbrx": ("glm4", "smaug-bpe"),
    "qwen2": ("deepseek-r1-qwen", "stablelm2", "hunyuan", "grok-2", "megrez"),
    "deepseek-v3": ("hunyuan-dense",),
}
"""Other names of the same ways, as files have them."""
PROBE = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u200d🌫️ (multiple emojis concatenated) ✅ 🦙🦙 "
    "3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天～ "
    "------======= нещо на Български ```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? "
    "'M not sure I'll make it, 'D you like some tea? We'Ve a'lL HelloWorld ABCdef iPhone x=y/z\n//a  b\r\n "
    "e\u0301 Ⅷ ½ ²  \u00a0 c"
)
"""After the text that llama.cpp's converter tries: white space, digits, scripts, signs, contractions, cases."""


def pre_tokenizer_of(way: Way) -> PreTokenizer:
    """The way as the tokenizers library has it, bytes last."""
    from tokenizers import Regex, pre_tokenizers

    if way.name == OWN:
        from pipeline.tokens.own_split import pre_tokenizer

        return pre_tokenizer()
    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in way.patterns]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


@lru_cache(maxsize=1)
def _known() -> dict[Way, list[tuple[str, tuple[int, int]]]]:
    ways = (Way(OWN, ()), *WAYS)
    return {way: pre_tokenizer_of(way).pre_tokenize_str(PROBE) for way in ways}


def way_named(name: str) -> Way | None:
    """The way that llama.cpp calls `name`."""
    ways = {way.name: way for way in (Way(OWN, ()), *WAYS)}
    return ways.get(next((ours for ours, others in SAME.items() if name in others), name))


def name_of(tokenizer: Tokenizer) -> str | None:
    """The name, or None where llama.cpp has none for it."""
    if is_in_pieces(tokenizer):
        return None if inexpressible(tokenizer) else SENTENCEPIECE
    state: JsonObject = json.loads(tokenizer.to_str())
    if state["model"]["type"] != "BPE" or tokenizer.pre_tokenizer is None or _rewrites(tokenizer):
        return None
    pieces = tokenizer.pre_tokenizer.pre_tokenize_str(PROBE)
    whole = bool(state["model"].get("ignore_merges"))
    found = [way for way, theirs in _known().items() if theirs == pieces]
    return next((way.name for way in found if way.ignore_merges == whole), None)


def unnamed(tokenizer: Tokenizer) -> str | None:
    """Why llama.cpp has no name for a tokenizer; None where it has one."""
    if is_in_pieces(tokenizer):
        return inexpressible(tokenizer)
    if name_of(tokenizer):
        return None
    return REWRITES if _rewrites(tokenizer) else UNKNOWN_SPLIT


def _rewrites(tokenizer: Tokenizer) -> bool:
    """Whether it changes text beyond Unicode's NFC, which llama.cpp's converter lets pass too: most text is in it."""
    made = PROBE if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(PROBE)
    return made not in (PROBE, unicodedata.normalize("NFC", PROBE))


def llama_name(folder: Path) -> str | None:
    """`name_of` the tokenizer of a folder."""
    from tokenizers import Tokenizer

    return name_of(Tokenizer.from_file(str(folder / "tokenizer.json")))
