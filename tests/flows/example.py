"""A run with hand-made artifacts in a store of its own, for the tests of the summary and the report."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from flows.recipe.stages import graph
from infra.manifest import Manifest, address, record_files
from infra.store import LocalStore, Store
from pipeline.tasks.ledger import Account, Ledger

HOSTILE = "<script>alert('x')</script>\x1b[31m\u202e$x_$ [bold]"
STEPS = 60


def _documents(before: int, after: int, markup: int = 0, **dropped: int) -> dict[str, Any]:
    """Metrics of a stage of documents with 2,000 characters each: a quarter of them books, from which nothing goes."""
    books = Account(documents_in=before // 4, documents_out=before // 4)
    books.characters_in = books.characters_out = 2000 * books.documents_in
    web = Account(documents_in=before - before // 4, documents_out=after - before // 4)
    web.characters_in, web.characters_out = 2000 * web.documents_in + markup, 1900 * web.documents_out
    for rule, documents in dropped.items():
        web.reject(rule, documents, 2000 * documents)
    web.cut_out("markup", markup)
    web.cut_out("c4/lines/no_terminal_punc", web.unaccounted)
    ledger = Ledger(accounts={"books": books, "web": web}, bytes_in=before * 2000 + markup, bytes_out=after * 2000)
    return ledger.metrics().written()


METRICS: dict[str, dict[str, Any]] = {
    "extract": _documents(2000, 1960, markup=9_000_000, empty=40),
    "clean": _documents(1960, 1500, gopher_repetition=300, c4_lorem=100, language=60),
    "dedup": _documents(1500, 1400, exact=30, minhash=70),
    "reasoning": {"train_tasks": 4000, "validation_tasks": 100, "test_tasks": 200},
    "decontaminate": {**_documents(1400, 1398, ngram=2), "evaluation_texts": 300},
    "tokenizer": {"adopted": False, "vocabulary": 8192, "bytes_per_token": {"books": 3.9, "web": 3.5}},
    "shards": {
        "train_tokens": 1_234_567,
        "validation_tokens": 24_000,
        "bytes_per_token": 3.61,
        "by_source": {"books": {"train_tokens": 400_000}, "web": {"train_tokens": 834_567}},
    },
    "pretrain": {
        "parameters": 4_900_000,
        "parameters_active": 2_100_000,
        "tokens": 983_040,
        "tokens_per_second": 12_345.0,
        "loss_before": 9.01,
        "loss_after": 3.42,
        "bits_per_byte_before": 3.60,
        "bits_per_byte_after": 1.37,
        "expert_load": {"1": {"min": 0.7, "max": 1.4, "cv": 0.2}},
    },
    "sft": {"loss_before": 3.0, "loss_after": 0.41, "tokens": 200_000},
    "grpo": {"accuracy_before": 0.31, "accuracy_after": 0.47},
    "evaluate": {},
    "quantize": {},
    "export": {},
}

EVALUATION: dict[str, Any] = {
    "checkpoints": {
        name: {
            "accuracy": accuracy,
            "accuracy_low": max(accuracy - 0.07, 0),
            "accuracy_high": accuracy + 0.07,
            "problems": 200,
            "format_rate": accuracy**0.1 if accuracy else 0.0,
            "bits_per_byte": {"books": 1.4 + worse, "web": 1.6 + worse},
            "loss": 3.4 + worse,
            "suites": {"gsm8k": {"accuracy": accuracy / 2, "problems": 9}, "text": {"problems": 1, "tasks": {}}},
        }
        for name, accuracy, worse in (("pretrain", 0.0, 0.0), ("sft", 0.405, 0.05), ("grpo", 0.475, 0.06))
    },
    "samples": [
        {
            "checkpoint": "grpo",
            "question": "What is 17 + 25?",
            "reasoning": "7 + 5 = 12, carry 1.\n1 + 2 + 1 = 4.",
            "answer": "42",
            "expected": "42",
            "correct": True,
        },
        {
            "checkpoint": "grpo",
            "question": HOSTILE,
            "reasoning": HOSTILE,
            "answer": HOSTILE,
            "expected": "7",
            "correct": False,
        },
    ],
    "continuations": [{"checkpoint": "pretrain", "prompt": "It was the", "text": f"best of times {HOSTILE}"}],
}


def _history(rate: float) -> dict[str, Any]:
    steps = [
        {
            "step": step,
            "loss": 3.4 + 5.6 * math.exp(-step * rate),
            "learning_rate": 1e-3 * min(step / 10, 1.0),
            "grad_norm": 1.0,
            **{
                f"expert_load_{name}/layer_{layer}": value + layer / 20 + math.sin(step / 3 + layer) / 10
                for layer in (1, 2, 3)
                for name, value in (("min", 0.6), ("max", 1.3), ("cv", 0.3))
            },
        }
        for step in range(1, STEPS + 1)
    ]
    validation = [{"step": step, "loss": 3.5 + 5.6 * math.exp(-step * rate)} for step in range(0, STEPS + 1, 20)]
    return {"steps": steps, "validation": validation}


def _events() -> str:
    """GRPO's series, with a step told twice as after a resumed run, and a torn last line."""
    lines = [{"event": "begin", "phase": "grpo", "total": 20, "unit": "steps", "done": 0}]
    lines += [
        {
            "event": "metrics",
            "step": step,
            "values": {
                "reward": 0.3 + step / 50,
                "accuracy": 0.3 + step / 100,
                "format": 0.9,
                "kl": step / 1000,
                "length": 60 + step,
                "loss": 0.01,
            },
        }
        for step in (*range(1, 21), 20)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines) + '{"event": "metr'


FILES: dict[str, dict[str, Any]] = {
    "pretrain": {"history.json": _history(0.08)},
    "sft": {
        "history.json": _history(0.2),
        "experts.json": {"1": {"use": [0.5, 0.2, 0.3], "trained": [0]}, "2": {"use": "none", "trained": 3}},
    },
    "evaluate": {"evaluation.json": EVALUATION},
    "quantize": {
        "quantization.json": {
            "precisions": {
                "f32": {"bytes": 19_600_000, "kl": 0.0},
                "int8": {"bytes": 5_400_000, "kl": 0.0004},
                "int4": {"bytes": 3_200_000, "kl": 0.012},
            }
        }
    },
}


NODES = {node.stage.name: node for node in graph(METRICS.__contains__)}


def identity(stage: str) -> str:
    """The made-up identity of a stage."""
    return f"{sum(map(ord, stage)):016x}"


def publish(store: Store, stage: str, run_id: str = "20261124-114612-sample-3f2a") -> Manifest:
    """Put the example's artifact of `stage` into the store."""
    staging = store.staging(stage, identity(stage))
    staging.prepare("code")
    for name, content in {"data.bin": stage * 1000, **FILES.get(stage, {})}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (staging.artifact / name).write_text(text, encoding="utf-8")
    if stage == "grpo":
        staging.events.write_text(_events(), encoding="utf-8")
    if stage == "export":
        (staging.artifact / "model-q4.gguf").write_bytes(bytes(4096))
    files, content = record_files(staging.artifact)
    manifest = Manifest(
        stage=stage,
        version=1,
        identity=identity(stage),
        config={},
        inputs={role: address(name, identity(name)) for role, name in NODES[stage].inputs.items()},
        external={"/data/<b>web</b>.warc.gz": "ab" * 32} if stage == "extract" else {},
        files=files,
        content=content,
        fingerprint="code",
        packages={"torch": "2.13.0", "hostile": HOSTILE},
        environment={"python": "3.11.9", "cpu": "a processor"},
        metrics=METRICS[stage],
        started="2026-11-24T11:46:12+00:00",
        seconds=12.3,
        run_id=run_id,
    )
    store.publish(staging, manifest)
    return manifest


def example_run(folder: Path, *, until: str = "export", state: str = "completed") -> tuple[dict[str, Any], Store]:
    """A run whose stages up to `until` have artifacts, and its store; a failed one breaks at `until`."""
    store = LocalStore(folder / "store")
    stages: dict[str, Any] = {}
    for row in (node.stage for node in NODES.values()):
        broke = state == "failed" and row.name == until
        if not broke:
            publish(store, row.name)
        stages[row.name] = {
            "identity": identity(row.name),
            "state": "failed" if broke else "cached" if row.name in ("extract", "clean") else "made",
            "seconds": 0.0 if row.name in ("extract", "clean") else 12.3,
            "started": "2026-11-24T11:46:12+00:00",
            "why": "first time",
        }
        if row.name == until:
            break
    record: dict[str, Any] = {
        "run_id": "20261124-114612-sample-3f2a",
        "recipe_name": "sample",
        "recipe": {"name": "sample", "description": HOSTILE, "pretrain": {"steps": 100}},
        "started": "2026-11-24T11:46:12+00:00",
        "ended": "2026-11-24T11:50:24+00:00",
        "state": state,
        "error": f"web.warc.gz: record 7: not a WARC record {HOSTILE}" if state == "failed" else None,
        "revision": "0123456789abcdef0123456789abcdef01234567",
        "dirty": True,
        "root": str(store.address),
        "mlflow": {"uri": f"sqlite:///{folder}/store/mlflow.db", "experiment_id": "1", "run_id": "abc"},
        "prefect": {"flow_run_id": "f0"},
        "stages": stages,
        "release": None,
    }
    if state == "completed" and until == "export":
        record["release"] = {
            "model": "deepmill-sample",
            "version": "3",
            "alias": "champion",
            "promoted": True,
            "previous": "2",
            "gates": [
                {"gate": "accuracy", "passed": True, "value": 0.475, "limit": 0.1, "text": "accuracy 0.48 ≥ 0.10"},
                {"gate": "quantization", "passed": True, "value": 0.012, "limit": 0.1, "text": HOSTILE},
            ],
        }
    store.write_run(record["run_id"], record)
    found = store.read_run(record["run_id"])
    assert found is not None
    return found, store
