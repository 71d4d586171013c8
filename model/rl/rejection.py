"""The stage `rejection`: of a policy's own answers, the right ones become data to fine-tune on (R1, section 2.3.3).

Every question of the training split is answered several times; what is right, well-formed and not said before is kept,
the shortest first, and a share of the tasks as they came is mixed in. A model that starts over from the base learns
from it (R1's third stage), and so does a smaller one (distillation).

What was kept of the questions so far lies in ``.work``: a run that was killed goes on from there.

Artifact: in the form of `reasoning`: ``train.jsonl``, and its ``validation.jsonl`` and ``test.jsonl`` unchanged.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infra import events
from infra.errors import UserError
from infra.hashing import file_digest
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
    progress = _Progress(out_dir / ".work", config, inputs)
    rows: list[dict[str, Any]] = []
    right = answers = solved = 0
    for found in progress.done:
        rows += found["rows"]
        right, answers, solved = right + found["right"], answers + found["answers"], solved + found["solved"]
    first = len(progress.done) * CHUNK
    events.begin("questions", len(asked), "questions", done=min(first, len(asked)))
    for start in range(first, len(asked), CHUNK):
        chunk = asked[start : start + CHUNK]
        repeated = [task for task in chunk for _ in range(config.samples)]
        numbers = range(start * config.samples, start * config.samples + len(repeated))
        solutions = solve(model, tokenizer, repeated, sampling, batch_size=config.batch_size, numbers=numbers)
        kept_rows: list[dict[str, Any]] = []
        found = {"right": sum(solution.score == 1 for solution in solutions), "answers": len(solutions), "solved": 0}
        for place, task in enumerate(chunk):
            mine = solutions[place * config.samples : (place + 1) * config.samples]
            kept = choose_answers(
                [(s.reasoning, s.answer) for s in mine if s.score == 1 and s.is_well_formed], config.kept
            )
            found["solved"] += bool(kept)
            kept_rows += [_row(task, number, *pair) for number, pair in enumerate(kept)]
        rows += kept_rows
        right, answers, solved = right + found["right"], answers + found["answers"], solved + found["solved"]
        progress.add(found | {"rows": kept_rows})
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


class _Progress:
    """What came of the chunks so far, a line each, under a first line that says of what configuration and inputs."""

    def __init__(self, work: Path, config: RejectionConfig, inputs: Mapping[str, Path]) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.path = work / "chunks.jsonl"
        files = (inputs["start"] / "model" / "model.safetensors", inputs["tokenizer"] / "tokenizer.json")
        contents = "".join(map(file_digest, (*files, inputs["reasoning"] / "train.jsonl")))
        head = json.dumps(hashlib.sha256((config.model_dump_json() + contents).encode()).hexdigest()) + "\n"
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]  # the last one may be torn
        if whole[:1] != [head]:
            whole = [head]
        self.done: list[dict[str, Any]] = [json.loads(line) for line in whole[1:]]
        self.path.write_text("".join(whole), encoding="utf-8")

    def add(self, found: Mapping[str, Any]) -> None:
        """Keep what came of one more chunk."""
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(found, ensure_ascii=False, sort_keys=True) + "\n")


def _row(task: Mapping[str, Any], number: int, reasoning: str, answer: str) -> dict[str, Any]:
    row = {name: value for name, value in task.items() if name != "response"}
    row |= {"id": f"{task['id']}-{number}", "reasoning": reasoning}
    return row if answer == task["answer"] else row | {"response": answer}
