"""Every preset of reasoning and domains runs to its end, small: each stage on what the graph says it reads.

Rules, mixtures, schedules, rewards and choices of the model are the preset's own; `tests.flows.small` says what is not.
"""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from flows.recipe.recipe import Recipe
from flows.recipe.stages import graph
from model.architecture.checkpoint import load_config, load_model
from model.facts.release import STUDENT
from model.generation.generate import Sampling, generate
from model.release.verify import Llama
from pipeline.reasoning.problems import read_tasks
from pipeline.tokens.chat import chat_format, read_tokenizer
from tests.flows.small import small
from tests.pipeline.corpus import set_workers

PRESETS = (
    "code",
    "r1",
    "r1-zero",
    "deepseekmath-7b",
    *(pytest.param(name, marks=pytest.mark.nightly) for name in ("maths", "science")),  # the stages of `code`
)


def run(recipe: Recipe, folder: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """Every stage; its artifact and its metrics."""
    made: dict[str, Path] = {}
    metrics: dict[str, Any] = {}
    for node in graph(recipe.has):
        stage = node.stage.name
        made[stage] = folder / "made" / stage
        made[stage].mkdir(parents=True)
        module, _, function = node.stage.entrypoint.partition(":")
        inputs = {role: made[source] for role, source in node.inputs.items()}
        metrics[stage] = getattr(importlib.import_module(module), function)(recipe.section(stage), inputs, made[stage])
    return made, metrics


@pytest.fixture(autouse=True)
def _one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    set_workers(monkeypatch, 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # a second thread only waits, at this size


@pytest.mark.parametrize(
    ("begins", "name", "opening"),
    [("file", "smollm", "<|im_start|>system\nYou are"), ("folder", "llama", "<s> [INST] Calc")],
)
def test_a_model_that_exists_comes_out_with_its_own_template(
    begins: str, name: str, opening: str, tmp_path: Path
) -> None:
    """In transformers and llama.cpp as here: the same prompt, the same greedy tokens."""
    made, metrics = run(small("adopt", tmp_path, begins), tmp_path)
    assert json.loads((made["evaluate"] / "evaluation.json").read_text())["order"] == ["start", "sft"]
    assert (metrics["tokenizer"].llama_cpp, metrics["start"].tokens_added) == (name, 2)
    folder, words = made["export"] / "hf", read_tokenizer(made["export"] / "hf")
    prompt, chat = chat_format(words).question("Calculate 4 + 8."), [{"role": "user", "content": "Calculate 4 + 8."}]
    assert words.decode(prompt, skip_special_tokens=False).startswith(opening)
    theirs = AutoTokenizer.from_pretrained(folder).apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert list(theirs) == prompt
    (said,) = generate(load_model(made["sft"] / "model"), [prompt], Sampling(12), stop=-1, logprobs=False)
    wanted = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=12, do_sample=False,
        eos_token_id=None,
    )  # fmt: skip
    assert wanted[0, len(prompt) :].tolist() == said.tokens
    llama = Llama(made["export"] / "gguf" / "model-f32.gguf", context=256)
    assert llama.tokens(llama._ask("/apply-template", {"messages": chat})["prompt"]) == prompt
    asked = {"prompt": prompt, "n_predict": 12, "temperature": 0, "ignore_eos": True, "return_tokens": True}
    assert llama._ask("/completion", asked)["tokens"] == said.tokens


@pytest.mark.parametrize("name", PRESETS)
def test_it_runs_to_its_end(name: str, tmp_path: Path) -> None:
    recipe = small(name, tmp_path)
    made, metrics = run(recipe, tmp_path)
    evaluation = json.loads((made["evaluate"] / "evaluation.json").read_text())
    trained = [stage for stage in made if (made[stage] / "model").is_dir() and stage not in ("quantize", "export")]
    assert sorted(evaluation["order"]) == sorted(trained)
    for marks in evaluation["checkpoints"].values():
        assert math.isfinite(marks["loss"])
        assert set(marks["bits_per_byte"]) == set(recipe.extract.sources)
    assert metrics["grpo"].answers == 2 * 2 * 4
    assert metrics["clean"].documents_out == metrics["extract"].documents_in  # no rule breaks on such text
    if recipe.continued:
        assert math.isfinite(metrics["continued"].forgetting)
    if recipe.export:
        assert (made["export"] / "hf" / "model.safetensors").exists()
        assert list((made["export"] / "gguf").glob("*.gguf"))
    if recipe.distill:
        stages = ["pretrain", "sft", "grpo", "sft_second", "grpo_second", "student", "distill"]
        assert evaluation["order"] == stages
        assert load_config(made["distill"] / "model").model_type == "llama"
        assert {row["answer"] for row in read_tasks(made["rejection"] / "train.jsonl")}
        assert (made["export"] / "gguf" / STUDENT).exists()
    assert (made["evaluate"] / "samples.html").exists() == bool(recipe.evaluate.samples)
