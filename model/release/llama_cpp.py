"""How llama.cpp is told to load a GGUF file: loopback, nothing fetched, every tensor checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gguf import GGUFReader

__all__ = ["parameters"]

ARCHITECTURES = ("deepseek2", "llama", "qwen2", "qwen3")


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


def _inspect(path: Path) -> bool:
    """Whether a file has a layer of multi-token prediction. llama.cpp ends the whole process over some damaged files:
    look first."""
    try:
        reader = GGUFReader(path)
        architecture = bytes(reader.fields["general.architecture"].parts[-1]).decode()
    except Exception as error:
        raise ValueError(f"no readable GGUF file ({type(error).__name__}: {error})") from None
    if architecture not in ARCHITECTURES:
        raise ValueError(f"its architecture is {architecture}, not one of {', '.join(ARCHITECTURES)}")
    return f"{architecture}.nextn_predict_layers" in reader.fields
