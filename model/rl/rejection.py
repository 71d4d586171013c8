"""The stage `rejection`: of a policy's own answers, the right ones become data to fine-tune on (R1, section 2.3.3).

Every question of the training split is answered several times; what is right, well-formed and not said before is kept,
the shortest first, and a share of the tasks as they came is mixed in. A model that starts over from the base learns
from it (R1's third stage), and so does a smaller one (distillation).

Artifact: in the form of `reasoning`: ``train.jsonl``, and its ``validation.jsonl`` and ``test.jsonl`` unchanged.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infra import events
from infra.errors import UserError
from model.finetune_sections import RejectionConfig

__all__ = ["choose_answers", "rejection"]

CHUNK = 32
"""Questions between two reports of progress."""


def rejection(config: RejectionConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Let the model of `start` answer the training split of `reasoning`.

    Raises:
        UserError: no answer is right, inputs that do not fit together.
    """
    import torch
    from tokenizers import Tokenizer

    from model.checkpoint import load_model
    from model.generate import Sampling
    from model.solve import solve
    from model.training.engine import threads_for
    from pipeline.reasoning import read_tasks

    torch.set_num_threads(threads_for(1))
    tokenizer = Tokenizer.from_file(str(inputs["tokenizer"] / "tokenizer.json"))
    model = load_model(inputs["start"] / "model")
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    tasks = read_tasks(inputs["reasoning"] / "train.jsonl")
    asked = list(tasks)
    if config.questions:
        random.Random(f"{config.seed} questions").shuffle(asked)
        asked = asked[: config.questions]
    sampling = Sampling(config.max_new_tokens, config.temperature, config.top_p, config.seed)
    rows: list[dict[str, Any]] = []
    right = answers = solved = 0
    events.begin("questions", len(asked), "questions")
    for start in range(0, len(asked), CHUNK):
        chunk = asked[start : start + CHUNK]
        repeated = [task for task in chunk for _ in range(config.samples)]
        numbers = range(start * config.samples, start * config.samples + len(repeated))
        solutions = solve(model, tokenizer, repeated, sampling, batch_size=config.batch_size, numbers=numbers)
        answers += len(solutions)
        right += sum(solution.score == 1 for solution in solutions)
        for place, task in enumerate(chunk):
            mine = solutions[place * config.samples : (place + 1) * config.samples]
            kept = choose_answers(
                [(s.reasoning, s.answer) for s in mine if s.score == 1 and s.is_well_formed], config.kept
            )
            solved += bool(kept)
            rows += [_row(task, number, *pair) for number, pair in enumerate(kept)]
        events.advance(len(chunk))
    events.flush()
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
    lines = [json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows]
    (out_dir / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    for split in ("validation", "test"):
        shutil.copyfile(inputs["reasoning"] / f"{split}.jsonl", out_dir / f"{split}.jsonl")
    return {
        "questions": len(asked),
        "answers": answers,
        "accepted_share": round(right / answers, 4),
        "questions_solved": solved,
        "rows_sampled": sampled,
        "rows_general": wanted,
        "train_tasks": len(rows),
    }


def choose_answers(answers: Sequence[tuple[str, str]], most: int) -> list[tuple[str, str]]:
    """Different answers, the shortest first: what is long among the right ones mostly wanders."""
    distinct = list(dict.fromkeys(answers))
    return sorted(distinct, key=lambda pair: (len(pair[0]) + len(pair[1]), pair))[:most]


def _row(task: Mapping[str, Any], number: int, reasoning: str, answer: str) -> dict[str, Any]:
    row = {name: value for name, value in task.items() if name != "response"}
    row |= {"id": f"{task['id']}-{number}", "reasoning": reasoning}
    return row if answer == task["answer"] else row | {"response": answer}
