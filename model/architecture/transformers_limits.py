"""What transformers does not read, or reads otherwise, of the models that this project writes."""

from __future__ import annotations

from pathlib import Path

from model.architecture.config import Family, ModelConfig
from pipeline.tokens.chat import read_tokenizer
from pipeline.tokens.llama_names import name_of

__all__ = ["AUTO_TOKENIZER", "TRANSFORMERS", "read_otherwise"]

TRANSFORMERS, AUTO_TOKENIZER = "transformers", "AutoTokenizer"


def read_otherwise(config: ModelConfig, tokenizer: Path) -> dict[str, str]:
    """What of transformers is not to be used on an export with this tokenizer's folder, and why."""
    if config.model_type is Family.DEEPSEEK:
        return {TRANSFORMERS: "it has no class for model_type deepseek; the files are in its layout all the same"}
    if config.model_type is Family.QWEN2 and not _is_qwens(tokenizer):
        return {
            AUTO_TOKENIZER: "transformers 5 cuts the text of every qwen2 model as Qwen2 does, whatever its files say, "
            "and this tokenizer does otherwise; PreTrainedTokenizerFast takes it as it is"
        }
    return {}


def _is_qwens(tokenizer: Path) -> bool:
    from tokenizers import normalizers

    words = read_tokenizer(tokenizer)
    return name_of(words) == "qwen2" and isinstance(words.normalizer, normalizers.NFC)
