"""The stage `on_policy`: a student learns from its teacher on what it writes itself (GKD, arXiv 2306.13649; MiniLLM,
arXiv 2306.08543).

Each step asks questions of the training split, lets the student answer, and pulls its distribution at every token of
its answers towards the teacher's: the loss is the reverse divergence

    mean over tokens of  sum over v of  student(v) (ln student(v) - ln teacher(v)),

over the whole vocabulary, which takes less noise than the two probabilities of the sampled token. Where an answer goes
wrong the teacher says so at the very token, so far fewer answers teach as much as with a reward at the end.

Artifact: as that of `grpo`; rewards are reported, and teach nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from infra.errors import UserError
from model.facts.training import GrpoMetrics
from model.finetune_sections import OnPolicyConfig
from model.training.ranks import RankJob, run_ranks

if TYPE_CHECKING:
    from model.architecture.transformer import Transformer
    from model.rl.pupil import Pupil
    from model.training.lora import Adapters
    from model.training.replay import Replay

__all__ = ["on_policy"]


def on_policy(config: OnPolicyConfig, inputs: Mapping[str, Path], out_dir: Path) -> GrpoMetrics:
    """Teach the model of `start` by the one of `teacher` on the training split of `reasoning`.

    Raises:
        UserError: inputs that do not fit together, a student that went wrong.
        SystemExit: 143, saved after SIGTERM.
    """
    return run_ranks("model.rl.on_policy:run_rank", GrpoMetrics, config, inputs, out_dir)


def run_rank(job: RankJob[OnPolicyConfig]) -> GrpoMetrics | None:
    """One rank's part; rank 0 writes the artifact."""
    from model.architecture.checkpoint import load_model
    from model.rl.grpo import learn_by
    from model.rl.pupil import Pupil
    from model.training.lineage import weight_files

    folder = job.inputs["teacher"] / "model"
    teacher = load_model(folder).requires_grad_(False)

    def pupil(model: Transformer, replay: Replay, adapters: Adapters | None) -> Pupil:
        if teacher.config.vocab_size != model.config.vocab_size:
            raise UserError(
                f"on_policy: the teacher knows {teacher.config.vocab_size} tokens and the student "
                f"{model.config.vocab_size}; both must have the recipe's tokenizer"
            )
        return Pupil(model, teacher, job.config, job.world, replay, adapters)

    return learn_by(pupil, job, "on_policy", weight_files(folder))
