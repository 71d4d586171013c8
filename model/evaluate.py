"""The stage `evaluate`: what each checkpoint can do, measured on what none of them was trained on.

All three are asked the same questions of the test split in the same chat format, read the same held-out text of every
source, and continue the same beginnings. A base model has never seen the chat format, and is judged all the same: that
is where fine-tuning starts from.

Artifact: ``evaluation.json``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING, Any

from infra import events
from infra.errors import UserError
from model.sections import EvaluateConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.solve import Solution
    from model.training.loop import TrainingBatch
    from model.transformer import Transformer

__all__ = ["evaluate", "text_loss", "wilson"]


def evaluate(config: EvaluateConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Measure the checkpoints; accuracy comes with the limits of its 95 % interval.

    Raises:
        UserError: an input that is no artifact of its stage.
    """
    import torch
    from tokenizers import Tokenizer

    from model.checkpoint import load_model, write_json
    from model.generate import Sampling
    from model.solve import solve
    from model.training.engine import threads_for
    from model.training.sources import token_bytes
    from pipeline.reasoning import read_tasks

    torch.set_num_threads(threads_for(1))
    tokenizer = Tokenizer.from_file(str(inputs["tokenizer"] / "tokenizer.json"))
    bytes_V = token_bytes(inputs["tokenizer"])
    tasks = read_tasks(inputs["reasoning"] / "test.jsonl")[: config.problems]
    text = _held_out_text(config, inputs["shards"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sampling = Sampling(config.max_new_tokens, config.temperature, config.top_p, config.seed)
    found: dict[str, Any] = {"checkpoints": {}, "samples": [], "continuations": []}
    checkpoints = [name for name, folder in inputs.items() if (folder / "model" / "config.json").exists()]
    if not checkpoints:
        raise UserError(f"evaluate: no checkpoint among {', '.join(inputs)}; train one first")
    events.begin("checkpoints", len(checkpoints), "checkpoints")
    for name in checkpoints:
        model = load_model(inputs[name] / "model").to(device)
        solutions = solve(model, tokenizer, tasks, sampling, batch_size=config.batch_size)
        found["checkpoints"][name] = _marks(tasks, solutions) | _reading(model, text, bytes_V)
        found["samples"] += [
            {
                "checkpoint": name,
                "question": task["question"],
                "reasoning": solution.reasoning,
                "answer": solution.answer,
                "expected": task["answer"],
                "correct": solution.score == 1,
            }
            for task, solution in zip(tasks[: config.samples], solutions, strict=False)
        ]
        found["continuations"] += [
            {"checkpoint": name, "prompt": prompt, "text": continuation}
            for prompt, continuation in zip(config.prompts, _continue(model, tokenizer, config), strict=True)
        ]
        events.advance()
    events.flush()
    write_json(out_dir / "evaluation.json", found)
    return _flat(found["checkpoints"])


def wilson(right: float, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Limits of the interval for a share of `right` in `total` (Wilson, 1927): sound for few and for extreme cases."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def text_loss(model: Transformer, batches: Sequence[TrainingBatch], bytes_V: Any) -> tuple[float, int, int]:
    """Summed loss in nats of the learned tokens of `batches`, how many there are, and the bytes they stand for."""
    import torch
    import torch.nn.functional as F

    device = model.lm_head.weight.device
    loss, tokens, size = 0.0, 0, 0
    with torch.inference_mode():
        for batch in batches:
            learned_BT = batch.learned_BT()
            targets_N = batch.tokens_BT[:, 1:][learned_BT]
            on_device = batch.to(device)
            hidden_BTD = model.hidden(on_device.tokens_BT, on_device.documents_BT)
            logits_NV = model.lm_head(hidden_BTD[:, :-1][learned_BT.to(device)]).float()
            loss += float(F.cross_entropy(logits_NV, targets_N.to(device), reduction="sum").double())
            tokens += len(targets_N)
            size += int(bytes_V[targets_N].sum())
    return loss, tokens, size


def _held_out_text(config: EvaluateConfig, shards: Path) -> dict[str, list[TrainingBatch]]:
    """The first rows of each source's held-out text, in the reader's order, four to a batch."""
    import torch

    from model.training.loop import TrainingBatch
    from pipeline.reader import ShardReader

    text: dict[str, list[TrainingBatch]] = {}
    rows = ShardReader(shards, "validation", global_batch=1).source_rows
    for source in sorted(source for source, count in rows.items() if count):
        reader = ShardReader(shards, "validation", global_batch=1, mixture={source: 1.0}, verify=False)
        singles = [reader.batch(step) for step in range(min(config.sequences, rows[source]))]
        groups = [singles[start : start + 4] for start in range(0, len(singles), 4)]
        text[source] = [
            TrainingBatch(torch.cat([row.tokens for row in group]), torch.cat([row.documents for row in group]))
            for group in groups
        ]
    return text


def _marks(tasks: Sequence[Mapping[str, Any]], solutions: Sequence[Solution]) -> dict[str, Any]:
    """Accuracy with its interval, and the share of answers in the asked-for format."""
    right = sum(solution.score for solution in solutions)
    low, high = wilson(right, len(solutions))
    by_task: dict[str, list[float]] = defaultdict(list)
    for task, solution in zip(tasks, solutions, strict=True):
        by_task[task["task"]].append(solution.score)
    return {
        "accuracy": right / len(solutions),
        "accuracy_low": low,
        "accuracy_high": high,
        "accuracy_by_task": {name: fmean(scores) for name, scores in sorted(by_task.items())},
        "problems": len(solutions),
        "format_rate": fmean(solution.is_well_formed for solution in solutions),
        "answer_tokens": fmean(len(solution.completion.tokens) for solution in solutions),
    }


def _reading(model: Transformer, text: Mapping[str, Sequence[TrainingBatch]], bytes_V: Any) -> dict[str, Any]:
    """Loss per token over all text, and bits per byte of each source."""
    measured = {source: text_loss(model, batches, bytes_V) for source, batches in text.items()}
    return {
        "loss": sum(loss for loss, _, _ in measured.values()) / max(1, sum(count for _, count, _ in measured.values())),
        "bits_per_byte": {
            source: loss / size / math.log(2) for source, (loss, _, size) in sorted(measured.items()) if size
        },
    }


def _continue(model: Transformer, tokenizer: Tokenizer, config: EvaluateConfig) -> list[str]:
    """What the model makes of the beginnings, sampled as R1 is (temperature 0.6, top-p 0.95)."""
    from model.generate import Sampling, generate, token_id

    sampling = Sampling(config.continuation_tokens, temperature=0.6, top_p=0.95, seed=config.seed)
    prompts = [tokenizer.encode(prompt, add_special_tokens=False).ids for prompt in config.prompts]
    completions = generate(model, prompts, sampling, stop=token_id(tokenizer, "<|eos|>"))
    return [tokenizer.decode(completion.tokens) for completion in completions]


def _flat(checkpoints: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The numbers as metrics of a run."""
    flat: dict[str, Any] = {}
    for name, values in checkpoints.items():
        for measure in ("accuracy", "accuracy_low", "accuracy_high", "format_rate", "loss"):
            flat[f"{measure}_{name}"] = values[measure]
        for source, bits in values["bits_per_byte"].items():
            flat[f"bits_per_byte_{name}_{source}"] = bits
    flat["problems"] = next(iter(checkpoints.values()))["problems"]
    return flat
