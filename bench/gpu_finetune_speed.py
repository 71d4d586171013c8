"""Tokens per second of fine-tuning and of reinforcement on one GPU beside TRL and a plain loop of transformers.

Layers of DeepSeek-V2-Lite's shapes (`bench.gpu_speed`), fp32 weights under bf16 autocast, AdamW, the same weights for
everybody. Fine-tuning: packed rows of several documents of which a half is learned; ours keeps them apart, the peers do
not. Reinforcement: answers to their limit, for an untrained model hardly ever ends one; one update for each rollout, no
reference.
"""

from __future__ import annotations

import gc
import importlib.util
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.gpu_problems import write_problems
from bench.gpu_speed import _transformer, _transformers
from bench.table import Row, row

ROWS, LENGTH, DOCUMENTS = 8, 2048, 8
QUESTIONS, GROUP, NEW_TOKENS = 8, 16, 96
STEPS, WARM = 8, 3
"""Steps, and how many of them warm up."""


class _Rows:
    """Drawn rows of some documents, of each of which the second half is learned; the same at every call."""

    def __init__(self, vocabulary: int, length: int) -> None:
        self.vocabulary, self.length = vocabulary, length

    def batch(self, step: int, rank: int, world: int) -> Any:
        from model.training.batches import TrainingBatch

        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(0, self.vocabulary, (ROWS, self.length), generator=generator)
        places, each = torch.arange(self.length), self.length // DOCUMENTS
        return TrainingBatch(
            tokens, (places // each).expand(ROWS, -1).clone(), (places % each >= each // 2).expand(ROWS, -1).clone()
        )


def supervised(device: torch.device, quick: bool) -> list[Row]:
    """Tokens per second of SFT steps."""
    length = LENGTH if device.type == "cuda" else 64
    steps = 4 if quick else STEPS
    seconds: dict[str, float | None] = {"ours": _ours_sft(device, length, steps)}
    for name, run in (("TRL", _trl_sft), ("transformers", _plain_sft)):
        seconds[name] = _guarded(name, lambda run=run: run(device, length, steps))  # type: ignore[misc]
    speeds = {name: each and ROWS * length / each for name, each in seconds.items()}
    ours = speeds.pop("ours")
    assert ours is not None
    return [row(f"SFT, {ROWS} x {length} tokens a step", "tokens/s", ours, speeds, 1.2)]


def reinforcement(device: torch.device, quick: bool) -> list[Row]:
    """Answers' tokens per second of whole GRPO steps, and of ours the parts."""
    steps = 3 if quick else STEPS
    new_tokens = NEW_TOKENS if device.type == "cuda" else 12
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = write_problems(Path(scratch))
        wrote, updated = _ours_grpo(device, Path(scratch), tokenizer, new_tokens, steps)
        theirs = _guarded("TRL", lambda: _trl_grpo(device, tokenizer, new_tokens, steps))
    tokens = QUESTIONS * GROUP * new_tokens
    told = f"GRPO, {QUESTIONS} x {GROUP} answers of {new_tokens} tokens"
    return [
        row(told, "tokens/s", tokens / (wrote + updated), {"TRL": theirs and tokens / theirs}, 1.2),
        row(f"{told}: the rollout", "tokens/s", tokens / wrote, {}, None),
        row(f"{told}: the update", "tokens/s", tokens / updated, {}, None),
    ]


def _guarded(name: str, run: Callable[[], float]) -> float | None:
    """A peer's number; None where it is not installed or fails."""
    if name == "TRL" and importlib.util.find_spec("trl") is None:
        print("TRL is not installed here")
        return None
    try:
        return run()
    except Exception:  # a peer's failure is not ours
        traceback.print_exc()
        return None
    finally:
        _clear()


def _clear() -> None:
    torch.use_deterministic_algorithms(False)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _median_step(times: list[float]) -> float:
    """Of the moments at which steps ended, the middle distance after those that warm up."""
    gaps = [after - before for before, after in pairwise(times)]
    return statistics.median(gaps[min(WARM, len(gaps) - 1) - 1 :] if len(gaps) > 1 else gaps)


def _ours_sft(device: torch.device, length: int, steps: int) -> float:
    """Seconds of a step of the task that the stage runs."""
    from model.finetune_sections import SftConfig
    from model.training.engine import make_engine
    from model.training.next_token import NextToken
    from model.training.replay import Replay

    transformer = _transformer(device)
    config = SftConfig(steps=steps, batch_size=ROWS, sequence_length=length, balance_loss=0.0)
    engine = make_engine(transformer, config)
    task = NextToken(engine, _Rows(transformer.config.vocab_size, length), config, 0, None, None, "sft", Replay())
    times = []
    for step in range(steps + 1):
        task.step(step)
        times.append(_now(device))
    del task, engine, transformer
    _clear()
    return _median_step(times)


def _labels(batch: Any) -> Tensor:
    return batch.tokens_BT.masked_fill(~batch.loss_mask_BT, -100)


def _plain_sft(device: torch.device, length: int, steps: int) -> float:
    """The same of transformers' class and a loop."""
    peer = _transformers(_transformer(device), device, torch.float32).train()
    peer.set_experts_implementation("grouped_mm")
    optimizer = torch.optim.AdamW(peer.parameters(), 1e-5, (0.9, 0.95), weight_decay=0.1, fused=True)
    source, times = _Rows(peer.config.vocab_size, length), []
    for step in range(steps + 1):
        batch = source.batch(step, 0, 1)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            tokens, labels = batch.tokens_BT.to(device), _labels(batch).to(device)
            loss = peer(input_ids=tokens, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(_now(device))
    return _median_step(times)


def _clock(device: torch.device, times: list[float]) -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times.append(_now(device))

    return Clock()


def _trl_settings(device: torch.device, scratch: str, steps: int) -> dict[str, Any]:
    return {
        "output_dir": scratch, "max_steps": steps + 1, "bf16": device.type == "cuda", "use_cpu": device.type == "cpu",
        "report_to": "none", "save_strategy": "no", "logging_strategy": "no", "gradient_checkpointing": False,
        "learning_rate": 1e-5, "weight_decay": 0.1, "max_grad_norm": 1.0, "optim": "adamw_torch_fused",
        "disable_tqdm": True,
    }  # fmt: skip


def _fast(tokenizer: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    roles = {"bos_token": "<|bos|>", "eos_token": "<|eos|>", "pad_token": "<|pad|>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **roles)


def _trl_sft(device: torch.device, length: int, steps: int) -> float:
    """The same of TRL's SFTTrainer on rows that are tokens already."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    peer = _transformers(_transformer(device), device, torch.float32)
    peer.set_experts_implementation("grouped_mm")
    source, times = _Rows(peer.config.vocab_size, length), []  # type: ignore[var-annotated]
    parts = [source.batch(step, 0, 1) for step in range(steps + 1)]
    rows = [
        {"input_ids": tokens, "labels": labels}
        for part in parts
        for tokens, labels in zip(part.tokens_BT.tolist(), _labels(part).tolist(), strict=True)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=peer,
            args=SFTConfig(
                **_trl_settings(device, scratch, steps),
                per_device_train_batch_size=ROWS,
                max_length=length,
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=_fast(write_problems(Path(scratch))),
            callbacks=[_clock(device, times)],
        )
        trainer.train()
    return _median_step(times)


def _ours_grpo(device: torch.device, folder: Path, tokenizer: Any, new_tokens: int, steps: int) -> tuple[float, float]:
    """Seconds of a rollout and of its update."""
    from model.finetune_sections import GrpoConfig
    from model.rl.policy import Policy
    from model.rl.rollout import roll_out
    from pipeline.reasoning.problems import read_tasks

    config = GrpoConfig(
        questions=QUESTIONS,
        group_size=GROUP,
        max_new_tokens=new_tokens,
        programs=False,
        learning_rate=1e-6,
        kl_weight=0.0,
    )
    policy = Policy(_transformer(device), config)
    tasks = read_tasks(folder / "reasoning" / "train.jsonl")
    wrote, updated = [], []
    for step in range(steps):
        begun = _now(device)
        rollout = roll_out(policy, tokenizer, tasks, config, step)
        between = _now(device)
        policy.update(rollout.answers, 1e-6)
        wrote.append(between - begun)
        updated.append(_now(device) - between)
    del policy
    _clear()
    return statistics.median(wrote[1:]), statistics.median(updated[1:])


def _trl_grpo(device: torch.device, tokenizer: Any, new_tokens: int, steps: int) -> float:
    """Seconds of a step of TRL's GRPOTrainer, which writes its answers with transformers."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    peer = _transformers(_transformer(device), device, torch.float32)
    peer.set_experts_implementation("grouped_mm")
    times: list[float] = []
    prompts = [{"prompt": f"<|bos|><|user|>What is {a} + {b}?<|assistant|>"} for a in range(10) for b in range(10)]

    def paid(completions: list[str], **more: Any) -> list[float]:
        return [float(len(completion) % 7) for completion in completions]

    with tempfile.TemporaryDirectory() as scratch:
        trainer = GRPOTrainer(
            model=peer,
            reward_funcs=paid,
            args=GRPOConfig(
                **_trl_settings(device, scratch, steps - 1),
                per_device_train_batch_size=QUESTIONS * GROUP,
                num_generations=GROUP,
                max_completion_length=new_tokens,
                temperature=1.0,
                beta=0.0,
            ),
            train_dataset=Dataset.from_list(prompts),
            processing_class=_fast(tokenizer),
            callbacks=[_clock(device, times)],
        )
        trainer.train()
    return _median_step(times)
