"""How llama.cpp is told to load a GGUF file (loopback, nothing fetched, every tensor checked), and how it is asked."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from gguf import GGUFReader

from infra.json_objects import JsonObject
from model.architecture import gguf_names
from model.architecture.gguf_metadata import Metadata

__all__ = ["ARCHITECTURES", "ask", "keep_in_8_bits", "parameters"]

GROUP = 32
"""Numbers that share a scale in llama.cpp's q8_0."""
ARCHITECTURES = tuple(sorted(set(gguf_names.ARCHITECTURES.values())))
ANSWER_SECONDS = 600.0
"""Some hundred tokens of a large model are written in this time."""


def parameters(
    path: Path, *, context: int, slots: int, threads: int, drafts: int = 0, drafter: Path | None = None
) -> object:
    """llama.cpp's parameters for one file: loopback, nothing fetched, no page of its own.

    Args:
        drafts: tokens that `drafter` guesses at a time; 0 for none.
        drafter: a file with the model's layer of multi-token prediction, or a smaller model of the same tokens.

    Raises:
        ValueError: the file is no GGUF file, or of an architecture that we do not write.
    """
    import xllamacpp

    _inspect(path)
    chosen: Any = xllamacpp.CommonParams()
    chosen.model.path = str(path)
    chosen.n_ctx, chosen.n_parallel = context * slots, slots
    chosen.cpuparams.n_threads = chosen.cpuparams_batch.n_threads = threads
    chosen.n_threads_http = slots + 2
    chosen.offline, chosen.ui, chosen.fit_params, chosen.warmup = True, False, False, False
    chosen.check_tensors = True
    chosen.cache_ram_mib = 0
    chosen.verbosity = 0
    if drafts and drafter is not None:
        _draft(chosen, drafts, drafter, threads)
    return chosen


def _draft(chosen: Any, drafts: int, drafter: Path, threads: int) -> None:
    import xllamacpp

    kinds = xllamacpp.common_speculative_type
    predicts = _inspect(drafter)
    kind = kinds.COMMON_SPECULATIVE_TYPE_DRAFT_MTP if predicts else kinds.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE
    chosen.load_mtp = predicts
    chosen.speculative.types = [kind]
    draft = chosen.speculative.draft
    draft.mparams.path, draft.n_max = str(drafter), drafts
    draft.cpuparams.n_threads = draft.cpuparams_batch.n_threads = threads


def ask(address: str, route: str, body: JsonObject) -> JsonObject:
    """What llama.cpp's server at `address` answers; no proxy stands between.

    Raises:
        OSError: it does not answer, or refuses.
    """
    request = urllib.request.Request(
        f"{address}{route}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=ANSWER_SECONDS) as answer:
        found: JsonObject = json.load(answer)
    return found


def keep_in_8_bits(parameters: object, path: Path) -> None:
    """Have llama.cpp keep keys and values of the model in `path` in 8 bits.

    It takes quantized values in its flash attention alone, and latent attention keeps keys of which the values are a
    part, so both have one type.

    Raises:
        ValueError: a head's keys do not divide into its blocks.
    """
    import xllamacpp

    value = Metadata.of(GGUFReader(path))
    width = value("attention.key_length") or value("embedding_length") // value("attention.head_count")
    if width % GROUP:
        raise ValueError(f"a head has {width} numbers per key, 8 bits want a multiple of {GROUP}: --cache-type auto")
    chosen: Any = parameters
    chosen.cache_type_k = chosen.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_Q8_0
    chosen.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED


def _inspect(path: Path) -> bool:
    """Whether a file has a layer of multi-token prediction. llama.cpp ends the whole process over some damaged files:
    look first."""
    try:
        value = Metadata.of(GGUFReader(path))
    except Exception as error:
        raise ValueError(f"no readable GGUF file ({type(error).__name__}: {error})") from None
    if value.architecture not in ARCHITECTURES:
        raise ValueError(f"its architecture is {value.architecture}, not one of {', '.join(ARCHITECTURES)}")
    return value("nextn_predict_layers") is not None
