"""Are the exported files the model? llama.cpp itself computes prompts, and its answer is compared with ours.

Next-token log probabilities after prompts of several lengths, over the whole vocabulary, with a 32-bit key-value cache
(llama.cpp's default of 16 bits alone costs a hundred times the tolerance), and the ids of hostile texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from infra.errors import UserError
from infra.json_objects import JsonObject
from model.architecture.transformer import Transformer
from model.release.llama_cpp import ask, parameters
from pipeline.tokens.llama_names import SENTENCEPIECE, name_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["HOSTILE", "TOLERANCE", "Agreement", "Llama", "agreement", "check_drafts", "check_runs", "verify_gguf"]

TOLERANCE = 5e-3
"""Most difference of a log probability between llama.cpp in f32 and us."""
DECODED = 32
"""Tokens that a speed is measured over."""
RUNS_WITHIN = 1.0
"""Most divergence (nats per token) of a quantized file: llama.cpp rounds activations too, but garbage is far off."""
HOSTILE = (
    "1234567 + 89 = 3.14e-10",
    "naïve façade — “quotes” … ‘x’",
    "漢字かな交じり文 한국어 العربية हिन्दी עברית",
    "🦙👩‍👩‍👧‍👦🏳️‍🌈 \u200b\u200d\ufeff",
    "  two  spaces\n\n\n\ttab\r\nline \u00a0end   ",
    "don't I'LL we've O'Neill's",
    "a" * 200,
    "https://example.org/a?b=c&d=%20#e_f",
    "def f(x):\n    return {**x, 'y': [1, 2]}  # \\n",
    "e\u0301 \u1e9b\u0323 ﬁ Ⅷ ½",
    "\x00\x01\x7f",
    "ＦＵＬＬ ｗｉｄｔｈ　text。、",
    " one\n  <s>▁</s> \n\n   <0x41> ",
)
"""Texts on which tokenizers are known to differ."""


@dataclass(frozen=True)
class Agreement:
    """Of one file with the model that it was made from."""

    difference: float
    """Greatest difference of a log probability."""
    top1: bool
    """Whether both find the same token likeliest, everywhere."""
    tokens: bool
    """Whether all hostile texts get the same ids."""


class Written(NamedTuple):
    """What llama.cpp wrote."""

    tokens: list[int]
    timings: dict[str, float]
    """By llama.cpp's names."""


class Llama:
    """llama.cpp with one file, for questions."""

    def __init__(self, path: Path, *, context: int, drafts: int = 0, drafter: Path | None = None) -> None:
        import xllamacpp

        threads = torch.get_num_threads()
        chosen: Any = parameters(path, context=context, slots=1, threads=threads, drafts=drafts, drafter=drafter)
        chosen.cache_type_k = chosen.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        chosen.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._server = xllamacpp.Server(chosen)

    def _ask(self, route: str, body: JsonObject) -> JsonObject:
        return ask(self._server.listening_address, route, body)

    def next_token(self, prompt: Sequence[int], size: int, letter: int) -> torch.Tensor:
        """Log probabilities [V] after `prompt`; what llama.cpp does not tell is NaN.

        A partial character would come without probabilities: have it write a plain `letter`, whatever they say.
        """
        asked = {"prompt": list(prompt), "n_predict": 1, "n_probs": size, "temperature": -1, "cache_prompt": False}
        found = self._ask("/completion", asked | {"logit_bias": [[letter, 1000.0]]})
        told_V = torch.full((size,), float("nan"), dtype=torch.float64)
        for entry in found["completion_probabilities"][0]["top_logprobs"]:
            # an infinity has no number in JSON
            told_V[entry["id"]] = float("nan") if entry["logprob"] is None else entry["logprob"]
        return told_V

    def written(self, prompt: Sequence[int], tokens: int, *, whole: bool = True) -> Written:
        """What it writes after `prompt`, the likeliest token each time; `whole` goes on behind the end of an answer."""
        asked = {"prompt": list(prompt), "n_predict": tokens, "ignore_eos": whole, "temperature": 0}
        found = self._ask("/completion", asked | {"return_tokens": True, "cache_prompt": False})
        return Written(found["tokens"], found["timings"])

    def decode_speed(self, prompt: Sequence[int], tokens: int = DECODED) -> float:
        """Tokens per second, of so many that are written after `prompt`, one at a time."""
        asked = {"prompt": list(prompt), "n_predict": tokens, "ignore_eos": True, "temperature": 0}
        return float(self._ask("/completion", asked)["timings"]["predicted_per_second"])

    def tokens(self, text: str) -> list[int]:
        """The ids of a text."""
        body = {"content": text, "add_special": False, "parse_special": True}
        return [int(token) for token in self._ask("/tokenize", body)["tokens"]]


def _pairs(
    llama: Llama, model: Transformer, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Our log probabilities [V] and llama.cpp's, after each prompt."""
    letter = tokenizer.encode("a", add_special_tokens=False).ids[0]
    for prompt in prompts:
        with torch.no_grad():
            ours_V = model.lm_head(model.hidden(torch.tensor([list(prompt)])))[0, -1].double().log_softmax(-1)
        yield ours_V, llama.next_token(prompt, model.config.vocab_size, letter)


def agreement(path: Path, model: Transformer, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]]) -> Agreement:
    """Let llama.cpp compute `prompts` with the file and compare with `model`."""
    llama = Llama(path, context=max(map(len, prompts)) + 16)
    worst, same = 0.0, True
    for ours_V, theirs_V in _pairs(llama, model, tokenizer, prompts):
        difference = float((ours_V - theirs_V).abs().max())
        worst = max(worst, difference) if difference == difference else float("inf")
        same = same and bool(ours_V.argmax() == theirs_V.argmax())
    is_ready = tokenizer.normalizer is None or name_of(tokenizer) == SENTENCEPIECE  # whose blanks llama.cpp sets
    texts = HOSTILE if is_ready else [tokenizer.normalizer.normalize_str(text) for text in HOSTILE]
    tokens = all(llama.tokens(text) == tokenizer.encode(text, add_special_tokens=False).ids for text in texts)
    return Agreement(worst, same, tokens)


def check_runs(path: Path, model: Transformer, tokenizer: Tokenizer) -> float:
    """Let llama.cpp compute with a quantized file.

    Returns:
        Divergence (nats per token) from the full-precision `model`.

    Raises:
        UserError: it computes something else altogether.
    """
    prompts = _prompts(model, tokenizer)[-2:]
    llama = Llama(path, context=max(map(len, prompts)) + 16)
    pairs = _pairs(llama, model, tokenizer, prompts)
    found = sum(float((ours_V.exp() * (ours_V - theirs_V)).sum()) for ours_V, theirs_V in pairs) / len(prompts)
    if not found < RUNS_WITHIN:
        raise UserError(
            f"{path}: llama.cpp computes something else with it (divergence {found:.3g} nats per token, "
            f"{RUNS_WITHIN:g} is allowed); set export.gguf to false, and report this as a bug"
        )
    return found


TIE = 0.05
"""Nats: two tokens that near may change places with the number of tokens that are computed at once."""


def check_drafts(path: Path, drafter: Path, model: Transformer, tokenizer: Tokenizer) -> None:
    """Let llama.cpp write with guesses of `drafter`, and compare with what it writes without.

    Raises:
        UserError: it writes something else, or guesses nothing.
    """
    prompt = _prompts(model, tokenizer)[-1]
    context = len(prompt) + 2 * DECODED
    alone = Llama(path, context=context)
    plain = alone.written(prompt, DECODED).tokens
    found = Llama(path, context=context, drafts=2, drafter=drafter).written(prompt, DECODED)
    if not found.timings.get("draft_n"):
        raise UserError(f"{drafter}: llama.cpp guesses nothing with it; report this as a bug")
    place = next(
        (place for place, pair in enumerate(zip(plain, found.tokens, strict=True)) if pair[0] != pair[1]), None
    )
    if place is None:
        return
    letter = tokenizer.encode("a", add_special_tokens=False).ids[0]
    told_V = alone.next_token([*prompt, *plain[:place]], model.config.vocab_size, letter)
    if not told_V[plain[place]] - told_V[found.tokens[place]] < TIE:
        raise UserError(f"{drafter}: llama.cpp writes something else with it; report this as a bug")


def _prompts(model: Transformer, tokenizer: Tokenizer) -> list[list[int]]:
    """Of several lengths, drawn from the vocabulary."""
    generator = torch.Generator().manual_seed(0)
    most = tokenizer.get_vocab_size()
    limit = min(64, model.config.max_position_embeddings)
    lengths = (1, 2, 7, limit // 2, limit)
    return [torch.randint(7, most, (length,), generator=generator).tolist() for length in lengths]


def verify_gguf(path: Path, model: Transformer, tokenizer: Tokenizer) -> Agreement:
    """`agreement` on prompts drawn from the vocabulary, for the full-precision file.

    Raises:
        UserError: llama.cpp computes something else, or reads text as other tokens.
    """
    found = agreement(path, model, tokenizer, _prompts(model, tokenizer))
    if found.difference > TOLERANCE or not found.top1:
        raise UserError(
            f"{path}: llama.cpp computes other probabilities (by {found.difference:.2g}, {TOLERANCE:g} is allowed); "
            "set export.gguf to false, and report this as a bug"
        )
    if not found.tokens:
        raise UserError(
            f"{path}: llama.cpp reads text as other tokens than the tokenizer does; set export.gguf to false, or use "
            "the pipeline's own pre-tokenization"
        )
    return found
