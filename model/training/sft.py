"""The stage `sft`: a model learns the chat format and to reason before it answers.

It serves the stages `sft_second` and `distill` too, which learn from the answers of a stronger model.

Artifact: ``model/`` (a Hugging Face checkpoint with the tokenizer), ``history.json`` (loss, learning rate, gradient
norm and expert load of every step, and the validations) and, with expert-selective fine-tuning, ``experts.json`` (how
much the tasks use each expert, and which were trained).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from infra import events
from infra.errors import UserError
from model.finetune_sections import SftConfig, Trained
from model.training.ranks import run_ranks

__all__ = ["sft"]


def sft(config: SftConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Fine-tune the model of `start` on the training split of `reasoning`; its validation split is the measure.

    Raises:
        UserError: inputs that do not fit together, tasks that do not fit a sequence, training that went wrong.
    """
    return run_ranks("model.training.sft:run_rank", config, inputs, out_dir)


def run_rank(argument: dict[str, Any]) -> None:
    """One rank's part; rank 0 writes the artifact. Its metrics go through a file in ``.work``."""
    import torch
    from tokenizers import Tokenizer

    from infra.hashing import file_digest
    from model.architecture.checkpoint import load_model, save_model, write_json
    from model.architecture.devices import own_device
    from model.generation.generate import Sampling, token_id
    from model.generation.solve import solve
    from model.training.chats import ChatBatches, encode_chats
    from model.training.engine import threads_for
    from model.training.esft import frozen_gates, select_experts
    from model.training.loop import Validation, train
    from pipeline.reasoning.stage import read_tasks

    config = SftConfig.model_validate(argument["config"])
    inputs = {name: Path(path) for name, path in argument["inputs"].items()}
    out_dir = Path(argument["out_dir"])
    torch.set_num_threads(threads_for(int(os.environ.get("WORLD_SIZE", "1"))))
    tokenizer = Tokenizer.from_file(str(inputs["tokenizer"] / "tokenizer.json"))
    model = load_model(inputs["start"] / "model")
    if tokenizer.get_vocab_size() > model.config.vocab_size:
        raise UserError(f"{inputs['pretrain']}: its vocabulary is smaller than the tokenizer's; train it again")
    held_out = read_tasks(inputs["reasoning"] / "validation.jsonl")
    pad = token_id(tokenizer, "<|pad|>")
    try:
        training, validating = (
            ChatBatches(encode_chats(tokenizer, rows), config.sequence_length, config.batch_size, pad, seed)
            for rows, seed in ((read_tasks(inputs["reasoning"] / "train.jsonl"), config.seed), (held_out, None))
        )
        experts = None
        if config.trained is Trained.EXPERTS:
            experts = select_experts(model, training, config, pad)
        batches = min(-(-config.validation_sequences // config.batch_size), validating.batches)
        result = train(
            model.train(),
            training,
            config if experts is None else frozen_gates(config),
            out_dir / ".work" / "snapshots",
            validation=Validation(validating, batches),
            identity=training.identity + file_digest(inputs["start"] / "model" / "model.safetensors"),
        )
    except ValueError as error:
        raise UserError(f"sft: {error}") from error
    if result.model is None:
        return
    save_model(result.model, out_dir / "model", inputs["tokenizer"])
    write_json(out_dir / "history.json", {"steps": result.history, "validation": result.validation})
    if experts is not None:
        write_json(out_dir / "experts.json", experts.report())
    metrics = (
        result.metrics()
        | (experts.metrics() if experts is not None else {})
        | {
            "rows": training.rows,
            "epochs": round(config.steps * config.batch_size / training.rows, 3),
            "tasks_too_long": training.left_out,
        }
    )
    if config.accuracy_tasks:
        torch.set_num_threads(threads_for(1))  # the other ranks are done
        asked = held_out[: config.accuracy_tasks]
        events.begin("held-out tasks", 0, f"{len(asked)} tasks")
        sampling = Sampling(max_new_tokens=config.max_new_tokens)
        solutions = solve(result.model.to(own_device()).eval(), tokenizer, asked, sampling)
        metrics["accuracy"] = fmean(solution.score for solution in solutions)
    write_json(out_dir / ".work" / "metrics.json", metrics)
