"""The stage `continued`: a base model goes on with a mixture of domain and general text (DeepSeekMath, section 2.3).

Two numbers are watched side by side, bits per byte of the domain's held-out text and of all the other sources': what is
gained, and what is forgotten for it. It starts from `pretrain`'s model, or from any Hugging Face checkpoint of a family
that this project knows, whose vocabulary grows by the tokens of the chat format where it lacks them.

Artifact: as of `pretrain`; the validations in ``history.json`` hold the bits per byte of every source.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra import events
from infra.errors import UserError
from model.architecture.config import count_parameters
from model.finetune_sections import ContinuedConfig
from model.training.ranks import run_ranks

if TYPE_CHECKING:
    import torch

    from model.training.engine import Engine

__all__ = ["continued", "forgetting"]


def continued(config: ContinuedConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Train the model of `pretrain`, or of `checkpoint`, on the artifact `shards`.

    Raises:
        UserError: inputs that do not fit together, training that went wrong, too much forgotten.
    """
    return run_ranks("model.training.continued:run_rank", config, inputs, out_dir)


def forgetting(before: float, after: float) -> float:
    """How much bits per byte rose, as a share of what they were; negative where they fell."""
    return after / before - 1


def run_rank(argument: dict[str, Any]) -> None:
    """One rank's part; rank 0 writes the artifact. Its metrics go through a file in ``.work``."""
    import torch

    from infra.hashing import file_digest
    from model.architecture.checkpoint import load_model, save_model, write_json
    from model.architecture.vocabulary import fit_vocabulary
    from model.training.engine import threads_for
    from model.training.loop import train
    from model.training.sources import ShardBatches, token_bytes
    from pipeline.tokens.reader import ShardReader

    config = ContinuedConfig.model_validate(argument["config"])
    inputs = {name: Path(path) for name, path in argument["inputs"].items()}
    out_dir = Path(argument["out_dir"])
    torch.set_num_threads(threads_for(int(os.environ.get("WORLD_SIZE", "1"))))
    start = _start(config, inputs)
    model = fit_vocabulary(load_model(start), start, inputs["tokenizer"])
    bytes_V = token_bytes(inputs["tokenizer"])
    try:
        reader = ShardReader(
            inputs["shards"], "train", global_batch=config.batch_size, seed=config.seed, mixture=config.mixture
        )
        weights = sorted(start.glob("*.safetensors"))
        result = train(
            model.train(),
            ShardBatches(reader),
            config,
            out_dir / ".work" / "snapshots",
            evaluate=_reading(config, inputs["shards"], bytes_V),
            identity=file_digest(inputs["shards"] / "shards.json") + "".join(map(file_digest, weights)),
            phase="continued pretraining",
        )
    except ValueError as error:
        raise UserError(f"continued: {error}") from error
    if result.model is None:
        return
    first, last = result.validation[0], result.validation[-1]
    found = {"parameters": count_parameters(model.config)} | result.metrics()
    if "bits_per_byte_general" in first:
        lost = forgetting(first["bits_per_byte_general"], last["bits_per_byte_general"])
        found["forgetting"] = round(lost, 5)
        if config.max_forgetting and lost > config.max_forgetting:
            raise UserError(
                f"continued: general bits per byte rose by {lost:.1%}, max_forgetting is {config.max_forgetting:.1%}; "
                "give the general sources more weight in continued.mixture, or lower learning_rate"
            )
        events.note(f"general bits per byte {lost:+.2%}")
    save_model(result.model, out_dir / "model", inputs["tokenizer"])
    write_json(out_dir / "history.json", {"steps": result.history, "validation": result.validation})
    write_json(out_dir / ".work" / "metrics.json", found)


def _start(config: ContinuedConfig, inputs: Mapping[str, Path]) -> Path:
    if not config.checkpoint:
        if "start" not in inputs:
            raise UserError("continued: nothing to start from; give the recipe pretrain, or continued.checkpoint")
        return inputs["start"] / "model"
    if len(config.checkpoint) != 1 or not Path(config.checkpoint[0]).is_dir():
        raise UserError(f"continued.checkpoint: {', '.join(config.checkpoint)}: name one local folder of a checkpoint")
    return Path(config.checkpoint[0])


def _reading(config: ContinuedConfig, shards: Path, bytes_V: torch.Tensor) -> Callable[[Engine, int], dict[str, float]]:
    """Bits per byte of each source's held-out text, of the domain and of the rest; ranks share the rows out."""
    import torch
    import torch.nn.functional as F

    from model.training.loop import TrainingBatch
    from pipeline.tokens.reader import ShardReader

    counts = ShardReader(shards, "validation", global_batch=1).source_rows
    unknown = set(config.domain) - set(counts)
    if unknown:
        raise ValueError(f"domain: no source is named {', '.join(sorted(unknown))}; there are {', '.join(counts)}")
    sources = [source for source in sorted(counts) if counts[source]]
    readers = {
        source: ShardReader(shards, "validation", global_batch=1, mixture={source: 1.0}, verify=False)
        for source in sources
    }

    @torch.no_grad()
    def read(engine: Engine, done: int) -> dict[str, float]:
        sums = torch.zeros(len(sources), 2, dtype=torch.float64, device=engine.device)
        for place, source in enumerate(sources):
            rows = min(counts[source], config.validation_sequences)
            # experts are exchanged between ranks, so all read equally often; what is read twice counts once
            for turn in range(-(-rows // engine.world)):
                number = turn * engine.world + engine.rank
                row = readers[source].batch(min(number, rows - 1))
                batch = TrainingBatch(row.tokens, row.documents).to(engine.device)
                logits_BTV = engine.forward(batch.tokens_BT, batch.documents_BT if config.document_mask else None)
                loss_tokens_BT = batch.loss_tokens_BT()
                targets_N = batch.tokens_BT[:, 1:][loss_tokens_BT]
                loss = F.cross_entropy(logits_BTV[:, :-1][loss_tokens_BT].float(), targets_N, reduction="sum")
                if number < rows:
                    sums[place, 0] += loss.double()
                    sums[place, 1] += bytes_V[targets_N.cpu()].sum()
        totals = engine.total(sums).tolist()
        found: dict[str, float] = {}
        groups = {"domain": set(config.domain), "general": set(sources) - set(config.domain)}
        for source, (loss, size) in zip(sources, totals, strict=True):
            found[f"bits_per_byte_{source}"] = loss / max(size, 1) / math.log(2)
        for name, members in groups.items() if config.domain else ():
            chosen = [total for source, total in zip(sources, totals, strict=True) if source in members]
            size = sum(count for _, count in chosen)
            if size:
                found[f"bits_per_byte_{name}"] = sum(loss for loss, _ in chosen) / size / math.log(2)
        return found

    return read
