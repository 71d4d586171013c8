"""The ladder of `bench.reasoning`: a model of half a million parameters through every reasoning stage, once per seed.

    base → continued (maths text) → SFT → GRPO              accuracy rises at each step
                                     GRPO → rejection → SFT again → GRPO again (R1's four stages)
                                  → SFT on the worked solutions alone, which R1's flow has to beat
    student → distillation (→ its own answers), against the same student reinforced alone, and after the same SFT

The stages are the project's own, called as the flow calls them. The general text is books, the domain GSM8K's training
questions with their solutions (`DEEPMILL_CORPORA`); the problems are sums of a few digits, held out by question. Half
of the training problems come with a worked solution and half with the answer alone, as in the field, where answers are
plenty and worked solutions are dear; that fine-tuning learns both, and reinforcement what pays, is what is measured.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.corpora import corpora
from infra.facts import StageMetrics
from model.architecture.config import Family, ModelConfig
from model.evaluation.evaluate import evaluate
from model.evaluation.sections import EvaluateConfig
from model.finetune_sections import (
    ContinuedConfig,
    GrpoConfig,
    OnPolicyConfig,
    ReinforcementReplayConfig,
    RejectionConfig,
    SftConfig,
)
from model.rl.grpo import grpo
from model.rl.on_policy import on_policy
from model.rl.rejection import rejection
from model.sections import OptimizerKind, PretrainConfig, Schedule
from model.training.continued import continued
from model.training.pretrain import pretrain
from model.training.sft import sft
from pipeline.reasoning.stage import reasoning
from pipeline.sections import ReasoningConfig, ReasoningTask, ShardsConfig, TokenizerConfig
from pipeline.tasks.documents import SCHEMA
from pipeline.tokens.shards import shards
from pipeline.tokens.tokenizer import tokenizer

__all__ = ["LAPTOP", "QUICK", "Scale", "climb", "prepare"]


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    text_bytes: int
    train: int
    validation: int
    test: int
    pretrain: int
    continued: int
    sft: int
    grpo: int
    questions: int
    group: int
    student: int
    hidden: int = 96
    direct_share: float = 0.5
    terms: tuple[int, int] = (2, 3)
    """Fewest and most numbers of a sum."""
    sft_rate: float = 5e-3
    sft_batch: int = 8
    held_out: float = 0.03
    """Share of the documents."""
    samples: int = 4
    """Answers to a question in rejection sampling."""


LAPTOP = Scale(
    text_bytes=800_000, train=1200, validation=128, test=400, pretrain=100, continued=30, sft=400, grpo=80,
    questions=16, group=8, student=60,
)  # fmt: skip
QUICK = Scale(
    text_bytes=60_000, train=60, validation=12, test=16, pretrain=3, continued=2, sft=60, grpo=2, questions=4, group=4,
    student=2, hidden=64, direct_share=0.0, terms=(2, 2), sft_rate=1e-2, sft_batch=4, samples=16, held_out=0.2,
)  # fmt: skip
NEW_TOKENS = 40


def prepare(scale: Scale, seed: int, root: Path) -> dict[str, Path]:
    """Corpus, problems, vocabulary and shards."""
    made = {name: root / name for name in ("reasoning", "decontaminate", "tokenizer", "shards")}
    if (made["shards"] / "shards.json").exists():
        return made
    for folder in made.values():
        folder.mkdir(parents=True, exist_ok=True)
    low, high = scale.terms
    options = {
        "min_terms": low, "max_terms": high, "min_digits": 1, "max_digits": 1, "operators": ["+", "-"],
        "allow_parentheses": False, "allow_negation": False,
    }  # fmt: skip
    config = ReasoningConfig(
        tasks=(ReasoningTask(name="basic_arithmetic", options=options),),
        train=scale.train,
        validation=scale.validation,
        test=scale.test,
        direct_share=scale.direct_share,
        seed=seed,
    )
    reasoning(config, {}, made["reasoning"])
    _write_documents(made["decontaminate"], scale)
    tokenizer(TokenizerConfig(vocabulary=400, train_bytes=200_000), made, made["tokenizer"])
    shards(ShardsConfig(sequence_length=128, validation_fraction=scale.held_out, seed=seed), made, made["shards"])
    return made


def climb(scale: Scale, seed: int, root: Path, say: Callable[[str], None]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every stage of one seed: its name and metrics. What is there already is read, so a run can be cut and go on."""
    made = prepare(scale, seed, root)

    def stage(name: str, run: Callable[..., StageMetrics], config: Any, **inputs: str) -> dict[str, Any]:
        out = root / name
        made[name] = out
        if (out / "metrics.json").exists():
            found: dict[str, Any] = json.loads((out / "metrics.json").read_text())
            return found
        out.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        read = {"tokenizer": made["tokenizer"], "reasoning": made["reasoning"], "shards": made["shards"]}
        found = run(config, read | {role: made[of] for role, of in inputs.items()}, out).written()
        found["bench_seconds"] = round(time.monotonic() - started, 1)
        (out / "metrics.json").write_text(json.dumps(found))
        say(f"seed {seed} {name}: {found['bench_seconds']} s")
        return found

    def asked(name: str) -> dict[str, Any]:
        """The checkpoint `name`, measured; each for itself, so that a ladder cut short has something to say."""
        config = EvaluateConfig(
            problems=scale.test, max_new_tokens=NEW_TOKENS, sequences=16, domain=("math",), samples_per_problem=0,
            prompts=(),
        )  # fmt: skip
        return stage(f"evaluate_{name}", evaluate, config, **{name: name})

    def rung(name: str, run: Callable[..., StageMetrics], config: Any, **inputs: str) -> tuple[str, dict[str, Any]]:
        return name, {**stage(name, run, config, **inputs), "evaluation": asked(name)}

    yield rung("pretrain", pretrain, _pretrain(scale, seed, _moe(scale)))
    yield rung("continued", continued, _continued(scale, seed), start="pretrain")
    yield rung("sft", sft, _sft(scale, seed), start="continued")
    yield rung("grpo", grpo, _grpo(scale, seed), start="sft")
    made["chains"] = _worked_alone(made["reasoning"], root / "chains")
    yield rung("sft_chains", sft, _sft(scale, seed), start="continued", reasoning="chains")
    yield "rejection", stage("rejection", rejection, _rejection(scale, seed), start="grpo")
    yield rung("sft_second", sft, _sft(scale, seed), start="continued", reasoning="rejection")
    yield rung("grpo_second", grpo, _grpo(scale, seed + 100), start="sft_second")
    yield rung("student", pretrain, _pretrain(scale, seed, _dense(scale), scale.student))
    yield rung("distill", sft, _sft(scale, seed), start="student", reasoning="rejection")
    yield rung("on_policy", on_policy, _on_policy(scale, seed), start="distill", teacher="grpo_second")
    yield rung("student_rl", grpo, _grpo(scale, seed), start="student")
    yield rung("student_sft", sft, _sft(scale, seed), start="student")
    yield rung("student_sft_rl", grpo, _grpo(scale, seed), start="student_sft")


def _worked_alone(reasoning: Path, out: Path) -> Path:
    """The same problems, to train on those with a worked solution alone: what one would do without reinforcement."""
    out.mkdir(exist_ok=True)
    for split in ("validation", "test"):
        (out / f"{split}.jsonl").write_bytes((reasoning / f"{split}.jsonl").read_bytes())
    lines = (reasoning / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (out / "train.jsonl").write_text("".join(line for line in lines if json.loads(line)["reasoning"]), encoding="utf-8")
    return out


def _moe(scale: Scale) -> ModelConfig:
    return ModelConfig(
        hidden_size=scale.hidden,
        num_hidden_layers=3,
        num_attention_heads=4,
        kv_lora_rank=32,
        qk_nope_head_dim=16,
        qk_rope_head_dim=16,
        v_head_dim=32,
        moe_intermediate_size=scale.hidden // 2,
        intermediate_size=2 * scale.hidden,
        initializer_range=0.02,
    )


def _dense(scale: Scale) -> ModelConfig:
    return ModelConfig(
        model_type=Family.LLAMA,
        hidden_size=scale.hidden * 2 // 3 // 8 * 8,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=2 * scale.hidden,
        initializer_range=0.02,
    )


def _pretrain(scale: Scale, seed: int, model: ModelConfig, steps: int = 0) -> PretrainConfig:
    return PretrainConfig(
        model=model, steps=steps or scale.pretrain, batch_size=8, learning_rate=1.5e-3, warmup_steps=10, seed=seed,
        validation_sequences=16, bias_update_speed=0.01, mixture={"book": 0.95, "math": 0.05},
    )  # fmt: skip


def _continued(scale: Scale, seed: int) -> ContinuedConfig:
    return ContinuedConfig(
        steps=scale.continued, batch_size=8, learning_rate=6e-4, schedule=Schedule.COSINE, warmup_steps=5, seed=seed,
        validation_sequences=24, bias_update_speed=0.01, mixture={"book": 0.4, "math": 0.6}, domain=("math",),
    )  # fmt: skip


def _sft(scale: Scale, seed: int) -> SftConfig:
    return SftConfig(
        steps=scale.sft, batch_size=scale.sft_batch, sequence_length=128, learning_rate=scale.sft_rate,
        optimizer=OptimizerKind.MUON, beta2=0.99, schedule=Schedule.COSINE, warmup_steps=10,
        spike_factor=10, validation_sequences=8, accuracy_tasks=128, max_new_tokens=NEW_TOKENS,
        seed=seed,
    )  # fmt: skip


def _grpo(scale: Scale, seed: int) -> GrpoConfig:
    return GrpoConfig(
        steps=scale.grpo, questions=scale.questions, group_size=scale.group, max_new_tokens=NEW_TOKENS,
        learning_rate=1e-4, beta2=0.99, warmup_steps=3, kl_weight=0.01, format_reward=0.2, accuracy_tasks=128,
        validate_every=10, seed=seed,
    )  # fmt: skip


def _on_policy(scale: Scale, seed: int) -> OnPolicyConfig:
    """A fifth of the answers that reinforcement takes."""
    return OnPolicyConfig(
        steps=max(1, scale.grpo * scale.group // 10), questions=scale.questions, group_size=2,
        max_new_tokens=NEW_TOKENS, learning_rate=3e-4, beta2=0.99, schedule=Schedule.COSINE, warmup_steps=8,
        accuracy_tasks=128, seed=seed, replay=ReinforcementReplayConfig(text=0.0),
    )  # fmt: skip


def _rejection(scale: Scale, seed: int) -> RejectionConfig:
    return RejectionConfig(
        questions=min(scale.train, 800), samples=scale.samples, kept=1, temperature=1.0, top_p=1.0,
        max_new_tokens=NEW_TOKENS, general_share=0.0, seed=seed,
    )  # fmt: skip


def _write_documents(artifact: Path, scale: Scale) -> None:
    """Books in pieces of a few paragraphs, and GSM8K's training problems solved."""
    texts = corpora("book", "math")
    rows: list[dict[str, str]] = []
    size = 0
    for book in sorted((texts / "book").glob("*.txt")):
        paragraphs = book.read_text(encoding="utf-8", errors="replace").split("\n\n")[20:220]
        for start in range(0, len(paragraphs), 8):
            rows.append(_document("book", f"{book.stem}-{start}", "\n\n".join(paragraphs[start : start + 8])))
            size += len(rows[-1]["text"])
        if size > scale.text_bytes / 2:
            break
    size = 0
    with (texts / "math" / "gsm8k_train.jsonl").open(encoding="utf-8") as handle:
        for number, line in enumerate(handle):
            row = json.loads(line)
            rows.append(_document("math", f"gsm8k-{number}", f"{row['question']}\n{row['answer']}"))
            size += len(rows[-1]["text"])
            if size > scale.text_bytes / 2:
                break
    (artifact / "documents").mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), artifact / "documents" / "00000.parquet")


def _document(source: str, name: str, text: str) -> dict[str, str]:
    return {"id": name, "text": text, "source": source, "url": "", "metadata": "{}"}
