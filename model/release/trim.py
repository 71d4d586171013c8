"""The vocabulary of a release, trimmed to the tokens that its training text uses: rows of embedding and output layer.

Done when all else is: the rows of a matrix are quantized one by one, so those that stay are the same bytes, and the
model predicts as before among the tokens that it still has (`pipeline.tokens.trim` says which).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from infra.json_objects import read_object
from model.architecture.checkpoint import GENERATION, load_config, prediction_bytes, write_json
from model.architecture.config import count_parameters
from model.facts.release import CHECKPOINT, TOKENIZER, PrecisionFacts, Quantization
from model.release.rows import CalibrationBatch, kinds_of_rows
from model.sections import QuantizeConfig
from pipeline.tokens.files import copy_tokenizer
from pipeline.tokens.reader import ShardReader
from pipeline.tokens.trim import kept_tokens, new_numbers, write_trimmed

__all__ = ["token_counts", "trim_folder", "trim_vocabulary"]

EVERY = 1 << 40
"""Of the rows of a kind: all."""
WEIGHTS = "model.safetensors"
VOCABULARY = re.compile(r"(^|\.)(embed_tokens|lm_head|shared_head\.head)\.")
"""In the names of tensors with a row for each token, copies of multi-token prediction's among them."""
TEXTS = 256
"""Rows of training text that both tokenizers cut."""


def trim_vocabulary(
    config: QuantizeConfig, inputs: Mapping[str, Path], checkpoint: Path, out_dir: Path, report: Quantization
) -> Quantization:
    """Trim every model in `out_dir`, and the `checkpoint`, which is copied to it; the report with their new sizes.

    Raises:
        UserError: the tokenizer is no BPE that knows all bytes.
    """
    from pipeline.tokens.chat import read_tokenizer

    tokenizer, folder = read_tokenizer(inputs["tokenizer"]), inputs["tokenizer"]
    counts_V = token_counts(config, inputs, load_config(checkpoint).vocab_size)
    state = read_object(folder / "tokenizer.json")
    kept = kept_tokens(state, np.flatnonzero(counts_V >= config.min_token_count).tolist())
    sample = ShardReader(inputs["shards"], "train", global_batch=1, verify=False)
    rows = (sample.batch(step).tokens[0].tolist() for step in range(min(TEXTS, sample.rows)))
    write_trimmed(folder, out_dir / TOKENIZER, kept, [tokenizer.decode(row, skip_special_tokens=True) for row in rows])
    if not (out_dir / CHECKPOINT).exists():
        shutil.copytree(checkpoint, out_dir / CHECKPOINT)
    models = [path.parent for path in sorted(out_dir.glob(f"*/{WEIGHTS}"))]
    for each in models:
        trim_folder(each, kept, out_dir / TOKENIZER)
    parameters = count_parameters(load_config(out_dir / CHECKPOINT))

    def smaller(facts: PrecisionFacts | None, name: str) -> PrecisionFacts | None:
        path = out_dir / name / WEIGHTS
        if facts is None or not path.exists():
            return facts
        size = path.stat().st_size - prediction_bytes(path.parent)
        told = {} if facts.bits_per_weight is None else {"bits_per_weight": round(8 * size / parameters, 3)}
        return facts.model_copy(update={"bytes": size, **told})

    places = {name: name for name in report.precisions} | {"pruned": CHECKPOINT}
    return report.model_copy(
        update={
            "parameters": parameters,
            "vocabulary": len(kept),
            "precisions": {name: smaller(facts, places[name]) for name, facts in report.precisions.items()},
            "w8a8": smaller(report.w8a8, "w8a8"),
            "llmcompressor": smaller(report.llmcompressor, "llmcompressor"),
        }
    )


def token_counts(config: QuantizeConfig, inputs: Mapping[str, Path], size: int) -> np.ndarray:
    """How often each token stands in the training text, and in the solved tasks and conversations to learn from."""
    counts_V = np.zeros(size, dtype=np.int64)
    for tokens in _training_tokens(config, inputs):
        counts_V += np.bincount(tokens, minlength=size)
    return counts_V


def _training_tokens(config: QuantizeConfig, inputs: Mapping[str, Path]) -> Iterator[np.ndarray]:
    from pipeline.tokens.chat import read_tokenizer

    text = ShardReader(inputs["shards"], "train", global_batch=1)
    for step in range(text.rows):
        yield text.batch(step).tokens.numpy().ravel()
    tokenizer = read_tokenizer(inputs["tokenizer"])
    kinds = kinds_of_rows(config.model_copy(update={"reasoning_share": 1.0}), inputs, tokenizer, EVERY, 0)
    for count, rows_of in kinds:
        rows: CalibrationBatch = rows_of(count)
        yield rows.tokens_BT[rows.valid_BT].numpy()


def trim_folder(folder: Path, kept: list[int], tokenizer: Path) -> None:
    """Keep the rows of `kept` in the model of `folder`, and give it its new numbers and tokenizer."""
    weights = load_file(folder / WEIGHTS)
    for name in weights:
        if VOCABULARY.search(name):
            weights[name] = weights[name][kept].contiguous()
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    number_of = new_numbers(kept)
    for name in ("config.json", GENERATION):
        if (folder / name).exists():
            found = _renumbered(read_object(folder / name), number_of)
            write_json(folder / name, found | ({"vocab_size": len(kept)} if name == "config.json" else {}))
    copy_tokenizer(tokenizer, folder)


def _renumbered(values: Mapping[str, Any], number_of: Mapping[int, int]) -> dict[str, Any]:
    """Numbers of tokens stand under keys that say so, single or as a list."""

    def new(value: Any) -> Any:
        return [number_of[each] for each in value] if isinstance(value, list) else number_of.get(value, value)

    ends = ("_token_id", "_token_ids")
    return {name: new(value) if name.endswith(ends) else value for name, value in values.items()}
