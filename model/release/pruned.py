"""The pruned checkpoint of `quantize`: experts judged, taken out, and what is left healed where that helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from infra import events
from model.architecture.checkpoint import save_model
from model.architecture.config import ModelConfig
from model.architecture.transformer import Transformer
from model.facts.release import CHECKPOINT, Pruning
from model.release.heal import heal
from model.release.prune import usage, without, worth_keeping
from model.release.quality import Judge, is_further
from model.release.rows import CalibrationBatch, kinds_of_rows
from model.sections import QuantizeConfig
from model.training.lineage import weight_files

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["write_pruned"]


def write_pruned(
    config: QuantizeConfig,
    model: Transformer,
    small: ModelConfig,
    inputs: Mapping[str, Path],
    tokenizer: Tokenizer,
    calibration: Sequence[CalibrationBatch],
    judge: Judge,
    out_dir: Path,
) -> tuple[Transformer, Pruning]:
    """Prune the model of ``inputs["model"]`` to the architecture `small`, as `config` says, and write it to the folder
    ``checkpoint`` of `out_dir`.

    Healing that ends further from the whole model than it began, on held-out text or tasks, is not kept.
    """
    asked = config.prune
    scores = {layer: seen.score(asked.by) for layer, seen in usage(model, calibration).items()}
    left, groups = small.n_routed_experts, small.n_group
    kept = {layer: worth_keeping(scores_E, left, groups) for layer, scores_E in scores.items()}
    pruned = without(model, small, kept).requires_grad_(False)
    facts = Pruning(
        by=asked.by,
        experts_before=model.config.n_routed_experts,
        experts_after=left,
        kept={str(layer): numbers.tolist() for layer, numbers in kept.items()},
        scores={str(layer): scores_E.tolist() for layer, scores_E in scores.items()},
        unhealed=judge.divergence(pruned),
    )
    checkpoint = inputs["model"] / "model"
    if asked.heal_steps:
        rows = _healing_rows(config, inputs, tokenizer)
        origin: list[str | Path] = [str(config.seed), *weight_files(checkpoint)]
        healed, steps = heal(
            without(model, small, kept),
            model,
            rows,
            asked,
            seed=config.seed,
            at_once=config.batch_size,
            work=out_dir / ".work" / "heal",
            identity=origin,
        )
        facts = facts.model_copy(
            update={
                "heal_steps": asked.heal_steps,
                "divergence_first": steps[0]["divergence"],
                "divergence_last": steps[-1]["divergence"],
                "healed": not is_further(judge.divergence(healed), facts.unhealed),
            }
        )
        if facts.healed:
            pruned = healed
        else:
            events.note("pruned: healing took the model further away, so it is left out; lower heal_learning_rate")
    save_model(pruned, out_dir / CHECKPOINT, checkpoint)
    return pruned, facts


def _healing_rows(config: QuantizeConfig, inputs: Mapping[str, Path], tokenizer: Tokenizer) -> list[CalibrationBatch]:
    """Training rows of the kinds and shares of calibration, in another order."""
    wanted = config.prune.heal_steps * config.prune.heal_batch
    return [rows_of(count) for count, rows_of in kinds_of_rows(config, inputs, tokenizer, wanted, config.seed + 1)]
