"""What a GGUF file takes of a device's memory under llama.cpp: computed from its header, nothing is loaded.

Weights are mapped: the kernel may drop their pages and read them again, at the price of speed. What is `repacked` is a
second copy, laid out for the int8 products of the processor. The cache holds one key (and value, where attention is not
latent) per token and layer. The buffers are those of `batch` tokens of the prompt, with flash attention and the logits
of one token. How the estimate compares with llama.cpp's measured peak: `TOLERANCE`, and docs/experiments.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from infra.errors import UserError

if TYPE_CHECKING:
    from gguf import GGUFReader

    from model.architecture.gguf_metadata import Metadata

__all__ = [
    "TOLERANCE",
    "DeviceFile",
    "Footprint",
    "Loading",
    "Processor",
    "model_files",
    "precision_of",
    "read_device_file",
]

TOLERANCE = (0.05, 0.25)
"""Shares by which a measured peak may be above and below the estimate, which counts buffers that are seldom filled."""
PROGRAM = 5 << 20
"""Bytes of a small program with libllama, libggml and the C++ library, before a model is loaded (measured),"""
GRAPH = 6_000_000
"""and of code and graphs that llama.cpp touches with any model (measured)."""
VOCABULARY_ENTRY = 230
"""Bytes per token and per merge: 218 to 245 in llama.cpp for vocabularies of 4 k to 152 k tokens (measured)."""
GUESSING = ("-mtp-", "-draft-")
"""In the names of files that `export` writes beside the model's (``model-mtp-q8_0.gguf``)."""
CELLS = 256
"""llama.cpp's cache has a multiple of so many tokens."""
EIGHT_BITS = 34 / 32
"""Bytes of a number of the cache in 8 bits, with its part of the scale."""
ROWS = 512
"""Numbers per token of the prompt that its buffers hold with every model (measured)."""


class Processor(StrEnum):
    """Which llama.cpp repacks weights for."""

    ARM64 = "arm64"
    X86_64 = "x86_64"


REPACKED: Mapping[Processor, Mapping[str, int]] = {
    Processor.ARM64: {"Q4_0": 4, "Q8_0": 4, "IQ4_NL": 4, "MXFP4": 4, "Q4_K": 8, "Q5_K": 8, "Q6_K": 8},
    Processor.X86_64: {"Q4_0": 8, "Q4_K": 8, "IQ4_NL": 8, "MXFP4": 8},
}
"""Types that llama.cpp v0.6 lays out anew (for dot products, for AVX2), by what their number of rows divides by."""
NEVER_REPACKED = ("token_embd", "attn_k_b", "attn_v_b")
"""Looked up by row; multiplied a head at a time."""


@dataclass(frozen=True)
class Loading:
    """How llama.cpp is asked to load a file."""

    in_8_bits: bool = False
    """The cache's numbers: 8 bits, and a 16-bit scale per 32; else 16 bits."""
    batch: int = 64
    """Tokens of the prompt that are read at once."""
    repack: bool = True
    processor: Processor = Processor.ARM64


DEFAULT = Loading()


@dataclass(frozen=True)
class Footprint:
    """Bytes, by what they are for."""

    weights: int
    repacked: int
    vocabulary: int
    cache: int
    buffers: int
    program: int = PROGRAM + GRAPH

    @property
    def total(self) -> int:
        """The most that is resident at once, while weights are repacked."""
        return self.weights + self.repacked + self.vocabulary + self.cache + self.buffers + self.program


@dataclass(frozen=True)
class DeviceFile:
    """What decides how much memory one GGUF file takes."""

    path: Path
    bytes: int
    weights: int
    experts: int
    """Routed experts of each layer; 0 in a dense model."""
    spare: int
    """Of them, a quarter, as far as a token still passes as many as before; else 0."""
    expert_bytes: int
    """Bytes of `weights` in all of them."""
    repackable: Mapping[Processor, int]
    entries: int
    """Tokens and merges of the vocabulary."""
    vocabulary: int
    """Tokens."""
    context: int
    """The longest that the model is meant for."""
    cached: int
    """Numbers in the cache per token, all layers together."""
    takes_8_bits: bool
    """Whether the cache may have 8 bits, which wants heads of a multiple of 32 numbers."""
    width: int
    """Numbers of the buffers per token of the prompt, without the attention mask."""

    @property
    def precision(self) -> str:
        """See `precision_of`."""
        return precision_of(self.path)

    def footprint(self, context: int, how: Loading = DEFAULT) -> Footprint:
        """Memory for `context` tokens."""
        cells = -(-context // CELLS) * CELLS
        return Footprint(
            weights=self.weights,
            repacked=self.repackable[how.processor] if how.repack else 0,
            vocabulary=self.entries * VOCABULARY_ENTRY,
            cache=round(cells * self.cached * (EIGHT_BITS if how.in_8_bits else 2)),
            buffers=min(how.batch, cells) * (4 * self.width + 2 * cells) + 8 * self.vocabulary,
        )

    def longest_context(self, memory: int, how: Loading = DEFAULT) -> int:
        """Tokens that fit into `memory` bytes; 0 where not even the fewest do."""
        least, most = 0, max(1, self.context // CELLS)
        while least < most:
            middle = (least + most + 1) // 2
            if self.footprint(middle * CELLS, how).total <= memory:
                least = middle
            else:
                most = middle - 1
        return min(least * CELLS, self.context)


def model_files(folder: Path) -> list[Path]:
    """The GGUF files of whole models in a folder: not those that only guess tokens for one of them."""
    return sorted(path for path in folder.glob("*.gguf") if not any(part in path.name for part in GUESSING))


def precision_of(path: Path) -> str:
    """``q4_0`` of ``model-q4_0.gguf``."""
    return path.stem.rpartition("-")[2]


def read_device_file(path: Path) -> DeviceFile:
    """Read the header of a GGUF file.

    Raises:
        UserError: it is none, or of an architecture that we do not write.
    """
    from gguf import GGUFReader

    from model.architecture.gguf_metadata import Metadata
    from model.release.llama_cpp import ARCHITECTURES

    try:
        reader = GGUFReader(path)
        facts = Metadata.of(reader)
        if facts.architecture not in ARCHITECTURES:
            raise UserError(f"{path}: its architecture is {facts.architecture}, not one of {', '.join(ARCHITECTURES)}")
        return _device_file(path, reader, facts)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{path}: not a readable GGUF file ({type(error).__name__}: {error}); "
            "name one, a folder that holds one, or MODEL@ALIAS"
        ) from None


def _device_file(path: Path, reader: GGUFReader, facts: Metadata) -> DeviceFile:
    heads, layers = facts("attention.head_count"), facts("block_count") - (facts("nextn_predict_layers") or 0)
    key = facts("attention.key_length") or facts("embedding_length") // heads
    value = facts("attention.value_length") or key
    latent = facts("attention.kv_lora_rank")
    kept = key if latent else (facts("attention.head_count_kv") or heads) * (key + value)
    tokens, merges = (
        len(field.data) if (field := reader.fields.get(f"tokenizer.ggml.{name}")) else 0
        for name in ("tokens", "merges")
    )
    return DeviceFile(
        path=path,
        bytes=path.stat().st_size,
        weights=sum(int(tensor.n_bytes) for tensor in reader.tensors),
        experts=facts("expert_count") or 0,
        spare=_spare(facts),
        expert_bytes=sum(int(tensor.n_bytes) for tensor in reader.tensors if "_exps." in tensor.name),
        repackable={processor: _repackable(reader, processor) for processor in Processor},
        entries=tokens + merges,
        vocabulary=tokens,
        context=facts("context_length"),
        cached=layers * kept,
        takes_8_bits=key % 32 == 0 and (bool(latent) or value % 32 == 0),
        width=_width(facts, heads, key, value),
    )


def _spare(facts: Metadata) -> int:
    """A quarter of the experts of each group, of all groups, unless too few would be left for a token."""
    groups = facts("expert_group_count") or 1
    group = (facts("expert_count") or 0) // groups
    gone = round(group / 4)
    passed = (group - gone) * (facts("expert_group_used_count") or groups)
    return gone * groups if passed >= (facts("expert_used_count") or 0) else 0


def _repackable(reader: GGUFReader, processor: Processor) -> int:
    """Bytes of the matrices of which a second copy is made. A tensor's shape is [columns, rows, experts]."""
    multiples = REPACKED[processor]
    return sum(
        int(tensor.n_bytes)
        for tensor in reader.tensors
        if (multiple := multiples.get(tensor.tensor_type.name))
        and not any(name in tensor.name for name in NEVER_REPACKED)
        and len(tensor.shape) > 1
        and int(tensor.shape[1]) % multiple == 0
    )


def _width(facts: Metadata, heads: int, key: int, value: int) -> int:
    """Numbers that a token of the prompt has in the buffers at the worst moment, fitted to llama.cpp's own figures.

    Three times the residual stream, and what is largest of: the dense layer's three products, the experts' three,
    the outputs of the chosen experts, attention's queries and outputs (with latent attention in both their forms).
    """
    hidden, chosen = facts("embedding_length"), facts("expert_used_count") or 0
    attention = 2 * heads * key + 2 * (facts("attention.head_count_kv") or heads) * value
    if facts("attention.kv_lora_rank"):
        attention = heads * (key + value + (facts("attention.key_length_mla") or 0))
    wide = (
        3 * (facts("feed_forward_length") or 0),
        3 * prod((chosen, facts("expert_feed_forward_length") or 0)),
        (chosen + 3) * hidden if chosen else 0,
        attention,
    )
    return ROWS + 3 * hidden + max(wide)
