"""The stage `rejection`: of a policy's own answers, the right ones become data to fine-tune on (R1, section 2.3.3).

Every question of the training split is answered several times; what is right, well-formed and not said before is kept,
the shortest first, and a share of the tasks as they came is mixed in. A model that starts over from the base learns
from it (R1's third stage), and so does a smaller one (distillation).

Ranks share the questions out, in chunks that are asked alike on whichever rank, so what is kept does not depend on how
many there are, but for near-ties that rounding decides (as in `model.rl.rollout`). What came of the chunks so far lies
in ``.work``: a run that was killed goes on from there, with as many ranks as it then has.

Artifact: in the form of `reasoning`: ``train.jsonl``, and its ``validation.jsonl`` and ``test.jsonl`` unchanged.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from infra import events
from infra.durable import write_durably
from infra.errors import UserError
from infra.facts import StageMetrics
from model.facts.training import RejectionMetrics
from model.finetune_sections import RejectionConfig
from model.training.lineage import lineage, weight_files
from model.training.ranks import RankJob, run_ranks
from pipeline.reasoning.problems import Problem, read_tasks, write_tasks

__all__ = ["rejection", "shortest_answers"]

CHUNK = 32
"""Questions that one rank asks together."""


class Answered(BaseModel):
    """What came of one chunk of questions."""

    right: int
    answers: int
    solved: int
    """Questions with at least one answer that is kept."""
    rows: list[Problem]


def rejection(config: RejectionConfig, inputs: Mapping[str, Path], out_dir: Path) -> RejectionMetrics:
    """Let the model of `start` answer the training split of `reasoning`.

    Raises:
        UserError: no answer is right, inputs that do not fit together.
    """
    tasks = read_tasks(inputs["reasoning"] / "train.jsonl")
    chunks = _chunks(config, tasks)
    files = _files(config, inputs, out_dir, len(chunks))
    done = [len(chunk) for chunk, file in zip(chunks, files, strict=True) if file.exists()]
    questions = sum(map(len, chunks))
    events.begin("questions", questions, "questions", done=sum(done))
    if len(done) < len(chunks):
        run_ranks("model.rl.rejection:run_rank", StageMetrics, config, inputs, out_dir)
    found = [Answered.model_validate_json(file.read_bytes()) for file in files]
    rows: list[Problem] = [row for part in found for row in part.rows]
    right, answers = sum(part.right for part in found), sum(part.answers for part in found)
    if not rows:
        raise UserError(
            f"rejection: none of {answers} answers is right and well-formed; reinforce the model first, "
            "or raise rejection.samples"
        )
    sampled = len(rows)
    general = [task for task in tasks if task["reasoning"] or task.get("response")] or tasks
    wanted = min(len(general), round(sampled * config.general_share / (1 - config.general_share)))
    rows += random.Random(f"{config.seed} general").sample(general, wanted)
    random.Random(f"{config.seed} order").shuffle(rows)
    write_tasks(out_dir / "train.jsonl", rows)
    for split in ("validation", "test"):
        shutil.copyfile(inputs["reasoning"] / f"{split}.jsonl", out_dir / f"{split}.jsonl")
    return RejectionMetrics(
        questions=questions,
        answers=answers,
        accepted_share=round(right / answers, 4),
        questions_solved=sum(part.solved for part in found),
        rows_sampled=sampled,
        rows_general=wanted,
        train_tasks=len(rows),
    )


def run_rank(job: RankJob[RejectionConfig]) -> StageMetrics:
    """One rank's chunks, a file each; those that are there already are passed over."""
    from model.architecture.devices import own_device
    from model.generation.generate import Sampling
    from model.generation.solve import solve_each

    config, inputs, tokenizer = job.config, job.inputs, job.tokenizer
    model = job.starting_model()
    model.to(own_device())
    chunks = _chunks(config, read_tasks(inputs["reasoning"] / "train.jsonl"))
    files = _files(config, inputs, job.out_dir, len(chunks))
    sampling = Sampling(config.max_new_tokens, config.temperature, config.top_p, config.seed)
    for number in range(job.rank, len(chunks), job.world):
        if files[number].exists():
            continue
        first = number * CHUNK * config.samples
        groups = solve_each(
            model, tokenizer, chunks[number], config.samples, sampling, batch_size=config.batch_size, first=first
        )
        rows: list[Problem] = []
        solved = 0
        for task, mine in zip(chunks[number], groups, strict=True):
            kept = shortest_answers(
                [(s.reasoning, s.answer) for s in mine if s.score == 1 and s.is_well_formed], config.kept
            )
            solved += bool(kept)
            rows += [_row(task, variant, *pair) for variant, pair in enumerate(kept)]
        right = sum(solution.score == 1 for mine in groups for solution in mine)
        found = Answered(right=right, answers=sum(map(len, groups)), solved=solved, rows=rows)
        write_durably(files[number], found.model_dump_json().encode())
        events.advance(len(chunks[number]))
    events.flush()
    return StageMetrics()


def _chunks(config: RejectionConfig, tasks: Sequence[Problem]) -> list[list[Problem]]:
    """The questions that are asked, in the order that their random numbers follow from."""
    asked = list(tasks)
    if config.questions:
        random.Random(f"{config.seed} questions").shuffle(asked)
        asked = asked[: config.questions]
    return [asked[start : start + CHUNK] for start in range(0, len(asked), CHUNK)]


def _files(config: RejectionConfig, inputs: Mapping[str, Path], out_dir: Path, chunks: int) -> list[Path]:
    """Where what comes of each chunk is kept: a folder for this configuration and these inputs."""
    read = (*weight_files(inputs["start"] / "model"), inputs["tokenizer"] / "tokenizer.json")
    digest = lineage(config, *read, inputs["reasoning"] / "train.jsonl")
    folder = out_dir / ".work" / "chunks" / digest[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return [folder / f"{number:06d}.json" for number in range(chunks)]


def shortest_answers(answers: Sequence[tuple[str, str]], most: int) -> list[tuple[str, str]]:
    """Different answers, the shortest first: what is long among the right ones mostly wanders."""
    distinct = list(dict.fromkeys(answers))
    return sorted(distinct, key=lambda pair: (len(pair[0]) + len(pair[1]), pair))[:most]


def _row(task: Problem, number: int, reasoning: str, answer: str) -> Problem:
    row: Problem = {**task, "id": f"{task['id']}-{number}", "reasoning": reasoning}
    row.pop("response", None)
    if answer != task["answer"]:
        row["response"] = answer
    return row
