"""A recipe that runs end to end in about a minute: made-up text, a model of some ten thousand parameters."""

from __future__ import annotations

import bz2
import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.cli import app
from flows.recipe.recipe import Recipe
from flows.recipe.stages import graph
from tests.flows.prepared import prepare_prefect
from tests.pipeline.corpus import words

HOUSE = Path(__file__).parents[2]
SERVER = "DEEPMILL_TEST_PREFECT_API_URL"
"""Names Prefect's server for what the tests run; without it each run has one of its own."""
NO_RULES = dict.fromkeys(
    ("url", "language", "gopher_repetition", "gopher_quality", "c4_quality", "fineweb_quality", "pii"), False
)
NARROW: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "moe_intermediate_size": 32,
    "intermediate_size": 64,
    "num_experts_per_tok": 2,
}
"""The least model with latent attention and experts."""
RECIPE: dict[str, Any] = {
    "name": "tiny",
    "description": "for the tests",
    "execution": {"workers": 2, "ranks": 1},
    "clean": {"rules": NO_RULES, "rules_by_source": {}},
    "reasoning": {
        "tasks": [
            {
                "name": "basic_arithmetic",
                "options": {"min_terms": 2, "max_terms": 2, "max_digits": 1, "operators": ["+"]},
            }
        ],
        "train": 40,
        "validation": 8,
        "test": 8,
    },
    "tokenizer": {"vocabulary": 400, "train_bytes": 200_000},
    "shards": {"sequence_length": 64, "validation_fraction": 0.1},
    "pretrain": {
        "steps": 4,
        "batch_size": 4,
        "warmup_steps": 1,
        "validation_sequences": 4,
        "model": NARROW | {"n_routed_experts": 4, "n_shared_experts": 1},
    },
    "sft": {
        "steps": 4,
        "batch_size": 4,
        "sequence_length": 64,
        "accuracy_tasks": 4,
        "max_new_tokens": 8,
        "validation_sequences": 4,
    },
    "grpo": {"steps": 2, "questions": 2, "group_size": 2, "max_new_tokens": 8, "accuracy_tasks": 4},
    "evaluate": {"problems": 4, "max_new_tokens": 8, "sequences": 2, "samples": 2, "continuation_tokens": 4},
    "quantize": {"calibration_sequences": 4, "evaluation_sequences": 2, "accuracy_problems": 2, "max_new_tokens": 8},
    "promote": {"max_quantization_kl": 1.0, "min_accuracy": 0},  # it answers nothing right
}
SECONDS = 550
"""That a command may take: ten times what it does, for a machine with other work."""
STAGES = [node.stage.name for node in graph(Recipe.model_validate(RECIPE).has)]
"""Of the recipe, in order."""


def write_corpus(folder: Path) -> Path:
    """A wiki dump and a JSONL file, with a duplicate."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = "".join(
        f"<page><title>Page {number}</title><ns>0</ns><id>{number}</id><revision><id>{number}</id>"
        f"<model>wikitext</model><format>text/x-wiki</format><text>'''Page''' {words(number, 120)}.</text>"
        "</revision></page>"
        for number in range(1, 31)
    )
    site = "<siteinfo><sitename>Tiny</sitename><namespaces><namespace key='0'/></namespaces></siteinfo>"
    opening = "<mediawiki xmlns='http://www.mediawiki.org/xml/export-0.10/' version='0.10' xml:lang='en'>"
    dump = f"{opening}{site}{pages}</mediawiki>"
    (folder / "wiki.xml.bz2").write_bytes(bz2.compress(dump.encode()))
    rows = [{"id": str(number), "text": words(100 + number % 29, 120)} for number in range(30)]
    (folder / "notes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_recipe(folder: Path, **changes: Any) -> Path:
    """The recipe as a file, with a corpus beside it."""
    corpus = write_corpus(folder / "corpus")
    sources = {
        "wiki": {"kind": "wiki", "paths": [str(corpus / "wiki.xml.bz2")], "licence": "CC-BY-SA-4.0"},
        "notes": {"kind": "jsonl", "paths": [str(corpus / "notes.jsonl")]},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(RECIPE | {"extract": {"sources": sources}} | changes))
    return path


def environment(root: Path) -> dict[str, str]:
    """Of a process whose store is below `root`, and whose Prefect database is beside it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DEEPMILL_", "PREFECT_"))}
    server = os.environ.get(SERVER)
    return (
        kept
        | ({"PREFECT_API_URL": server} if server else {})
        | {
            "DEEPMILL_ROOT": str(root / "store"),
            "PREFECT_HOME": str(root.parent / "prefect"),
            "PYTHONPATH": str(HOUSE),
            "COLUMNS": "120",
            "OMP_NUM_THREADS": "1",
        }
    )


def start(root: Path, *arguments: str, inside: Sequence[str] = ()) -> subprocess.Popen[str]:
    """`deepmill ...` in a process of its own, its output and errors together; `inside` is a command that runs it."""
    if arguments[0] in ("run", "study", "rerun"):
        prepare_prefect(root.parent / "prefect")
    return subprocess.Popen(
        [*inside, sys.executable, "-m", "flows.cli", *arguments],
        env=environment(root),
        cwd=root,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )


def deepmill(root: Path, *arguments: str, status: int = 0, inside: Sequence[str] = ()) -> str:
    """What `deepmill ...` prints; it must leave with `status`."""
    process = start(root, *arguments, inside=inside)
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == status, printed
    return printed


def ask(root: Path, *arguments: str) -> str:
    """What `deepmill ...` prints, in this process, which has MLflow imported already; errors are raised."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setenv("DEEPMILL_ROOT", str(root / "store"))
        patch.setenv("COLUMNS", "120")
        patch.chdir(root)
        app(list(arguments), standalone_mode=False)
    return printed.getvalue()
