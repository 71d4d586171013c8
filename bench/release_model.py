"""The model of `bench.release`: a mixture of experts of 10 million parameters, taught real text of three kinds.

The shape is a small laptop recipe's with every width that K-quants ask for (multiples of 256). Books, GSM8K's training
questions with solutions, and Python code come from `DEEPMILL_CORPORA`. The stages are the project's own; what lies in
the folder already is taken as it is, so a run that was cut goes on.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.corpora import corpora
from infra.manifest import MANIFEST, Manifest
from model.architecture.config import ModelConfig
from model.sections import PretrainConfig, Schedule
from model.training.pretrain import pretrain
from pipeline.reasoning.stage import reasoning
from pipeline.sections import ReasoningConfig, ReasoningTask, ShardsConfig, TokenizerConfig
from pipeline.tasks.documents import SCHEMA
from pipeline.tokens.shards import shards
from pipeline.tokens.tokenizer import tokenizer

__all__ = ["LAPTOP", "QUICK", "Scale", "make_model", "make_text", "model_of"]


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    source_bytes: int
    """Text of each kind."""
    steps: int
    batch: int
    length: int
    vocabulary: int
    layers: int
    expert: int
    """Width of an expert."""
    tasks: int


LAPTOP = Scale(source_bytes=2_500_000, steps=150, batch=8, length=256, vocabulary=4096, layers=4, expert=256, tasks=400)
QUICK = Scale(source_bytes=80_000, steps=8, batch=4, length=128, vocabulary=512, layers=2, expert=256, tasks=40)


def make_model(scale: Scale, root: Path, say: Callable[[str], None]) -> dict[str, Path]:
    """Artifacts by stage name; ``model`` is the trained checkpoint's."""
    made = make_text(scale, root, say) | {"model": root / "model"}
    _make({"model": lambda: pretrain(_training(scale), made, made["model"])}, made, say)
    return made


def make_text(scale: Scale, root: Path, say: Callable[[str], None]) -> dict[str, Path]:
    """The same without a model."""
    made = {name: root / name for name in ("reasoning", "decontaminate", "tokenizer", "shards")}
    task = ReasoningTask(name="chain_sum", options={"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 2})
    stages: dict[str, Callable[[], object]] = {
        "reasoning": lambda: reasoning(
            ReasoningConfig(tasks=(task,), train=scale.tasks, validation=scale.tasks // 4, test=scale.tasks // 4),
            {},
            made["reasoning"],
        ),
        "decontaminate": lambda: _write_documents(made["decontaminate"], scale.source_bytes),
        "tokenizer": lambda: tokenizer(TokenizerConfig(vocabulary=scale.vocabulary), made, made["tokenizer"]),
        "shards": lambda: shards(
            ShardsConfig(sequence_length=scale.length, validation_fraction=0.06), made, made["shards"]
        ),
    }
    _make(stages, made, say)
    return made


def _make(stages: Mapping[str, Callable[[], object]], made: Mapping[str, Path], say: Callable[[str], None]) -> None:
    """Those whose artifact is not there yet."""
    for name, stage in stages.items():
        if (made[name] / "done").exists():
            continue
        made[name].mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        stage()
        (made[name] / "done").touch()
        say(f"{name}: {time.monotonic() - started:.0f} s")


def model_of(artifact: Path) -> dict[str, Path]:
    """The same artifacts of a run in a local store, from that of a stage that makes or reads the model."""
    folder = artifact.absolute()
    store, found, pending = folder.parent.parent, {"model": folder}, [folder]
    while pending:
        manifest = Manifest.model_validate_json((pending.pop() / MANIFEST).read_text(encoding="utf-8"))
        for role, address in manifest.inputs.items():
            if role in ("shards", "tokenizer", "reasoning") or (role == "model" and found["model"] == folder):
                found[role] = store / address
            if role in ("model", "start", "shards", "tokenizer"):
                pending.append(store / address)
    return found


def _training(scale: Scale) -> PretrainConfig:
    model = ModelConfig(
        hidden_size=256,
        num_hidden_layers=scale.layers,
        num_attention_heads=4,
        kv_lora_rank=256,
        qk_nope_head_dim=32,
        qk_rope_head_dim=32,
        v_head_dim=64,
        moe_intermediate_size=scale.expert,
        intermediate_size=768,
        initializer_range=0.02,
        max_position_embeddings=1024,
    )
    return PretrainConfig(
        model=model,
        steps=scale.steps,
        batch_size=scale.batch,
        learning_rate=2e-3,
        schedule=Schedule.COSINE,
        warmup_steps=min(30, scale.steps),
        bias_update_speed=0.005,
        validate_every=100,
    )


def _write_documents(artifact: Path, most: int) -> None:
    folder = corpora("book", "math", "code")
    rows: list[dict[str, str]] = []
    for source, texts in (("book", _books(folder)), ("math", _problems(folder)), ("code", _programs(folder))):
        size = 0
        for number, text in enumerate(texts):
            rows.append({"id": f"{source}-{number}", "text": text, "source": source, "url": "", "metadata": "{}"})
            size += len(text)
            if size > most:
                break
    (artifact / "documents").mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), artifact / "documents" / "00000.parquet")


def _books(folder: Path) -> Iterable[str]:
    """A few paragraphs at a time."""
    for book in sorted((folder / "book").glob("*.txt")):
        paragraphs = book.read_text(encoding="utf-8", errors="replace").split("\n\n")[20:]
        for start in range(0, min(len(paragraphs), 1600), 8):
            yield "\n\n".join(paragraphs[start : start + 8])


def _problems(folder: Path) -> Iterable[str]:
    with (folder / "math" / "gsm8k_train.jsonl").open(encoding="utf-8") as handle:
        for line in handle:
            row = json.loads(line)
            yield f"{row['question']}\n{row['answer']}"


def _programs(folder: Path) -> Iterable[str]:
    for archive in sorted((folder / "code").glob("*.jsonl.gz")):
        with gzip.open(archive, "rt", encoding="utf-8") as handle:
            for line in handle:
                yield str(json.loads(line)["text"])[:6000]
