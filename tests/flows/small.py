"""The presets, small: the same stages, choices and rules, few steps, narrow layers, made-up text."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.recipe.recipe import Recipe, load_recipe
from model.architecture.checkpoint import save_model
from model.architecture.config import Family
from pipeline.tokens.llama_names import WAYS
from tests.flows.tiny import NARROW
from tests.model.conftest import tiny_model
from tests.model.release.test_adopted import foreign, written
from tests.pipeline.sources.raw import page, warc_record, wiki_dump, wiki_page
from tests.pipeline.tokens.pieces import MISTRAL, pieces, save_pieces

ONE_DIGIT = {"name": "chain_sum", "options": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}}
WORDS = {
    "noun": "harbour bridge garden teacher river market engine letter winter mountain kitchen village captain "
    "painter forest window doctor library island farmer station lantern baker meadow",
    "adjective": "old quiet narrow famous empty bright heavy gentle broken distant wooden golden patient curious",
    "verb": "crosses follows repairs remembers describes carries watches measures paints leaves studies answers",
    "adverb": "slowly often never carefully again always quietly early together seldom",
    "place": "near behind above under beside along against between",
}
SIZES = NARROW | {"n_routed_experts": 8, "max_position_embeddings": 256}
TRAINED = {"steps": 3, "batch_size": 4, "validate_every": 2, "validation_sequences": 2, "warmup_steps": 1}
ASKED = {"max_new_tokens": 24, "accuracy_tasks": 4}
SMALL: dict[str, dict[str, Any]] = {
    "tokenizer": {"vocabulary": 420, "train_bytes": 200_000},
    "shards": {"sequence_length": 128, "validation_fraction": 0.15},
    "pretrain": TRAINED,
    "student": TRAINED,
    "continued": TRAINED,
    **dict.fromkeys(("sft", "sft_second", "distill"), TRAINED | ASKED | {"sequence_length": 128}),
    **dict.fromkeys(("grpo", "grpo_second"), ASKED | {"steps": 2, "questions": 2, "group_size": 4}),
    "rejection": {"questions": 0, "samples": 8, "max_new_tokens": 24},
    "evaluate": {"problems": 4, "max_new_tokens": 24, "sequences": 2, "samples": 2, "continuation_tokens": 4},
    "quantize": {"calibration_sequences": 4, "evaluation_sequences": 2, "accuracy_problems": 2, "max_new_tokens": 8},
}


def small(name: str, folder: Path, begins: str = "file") -> Recipe:
    """The preset `name`, small, on text that is written into `folder`. Stages and all other keys are the preset's.

    Args:
        begins: with a GGUF file and a byte-level vocabulary, or a folder and one of SentencePiece.
    """
    values = load_recipe(name).model_dump(mode="json")
    sources = _sources(values)
    values["extract"]["sources"] = {
        source: {**options, "paths": [str(write_source(folder, source, options["kind"]))]}
        for source, options in sources.items()
    }
    for section, changes in SMALL.items():
        if values[section] is not None:
            values[section] |= changes
    for section in ("pretrain", "student"):
        if values[section] is not None:
            values[section]["model"] |= _sizes(values[section]["model"])
    values["reasoning"] |= {"train": 40, "validation": 8, "test": 8}
    for section in ("grpo", "grpo_second"):
        if values[section] is not None and values[section]["reference_every"]:
            values[section]["reference_every"] = 1
    if values["evaluate"]["samples_per_problem"]:
        values["evaluate"] |= {"samples_per_problem": 2, "sampled_problems": 3}
    if values["start"] is not None:
        values |= _beginning(folder, begins)
        values["sft"] |= {"micro_batch": 0, "sequence_length": 256}  # its chat template writes a system message
    if values["rejection"] is not None:  # something must be answered right: sums that a few steps teach
        values["reasoning"]["tasks"] = [ONE_DIGIT]
        values["sft"] |= {"steps": 150, "learning_rate": 1e-2, "beta2": 0.95}
    return Recipe.model_validate(values)


def _beginning(folder: Path, kind: str) -> dict[str, Any]:
    """A model of another make, with a chat template of its own, and a conversation."""
    model = tiny_model(
        Family.LLAMA,
        vocab_size=700 if kind == "file" else len(pieces().texts),
        hidden_size=64,
        intermediate_size=64,
        tie_word_embeddings=True,
        initializer_range=0.05,
    )
    if kind == "file":
        checkpoint = str(written(model, foreign(folder / "foreign", WAYS[0]), folder))
    else:
        checkpoint = str(save_pieces(folder / "foreign", template=MISTRAL))
        save_model(model, folder / "foreign", None)
    said = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello!"}]
    (folder / "talks.jsonl").write_text(json.dumps({"messages": said}) + "\n")
    return {
        "start": {"checkpoint": [checkpoint]},
        "tokenizer": {"adopt": [checkpoint]},
        "conversations": {"files": [str(folder / "talks.jsonl")], "validation": 0},
    }


def _sources(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The preset's own sources; those that its mixture names where it leaves them to the user."""
    found: dict[str, dict[str, Any]] = values["extract"]["sources"]
    mixture = (values["continued"] or {}).get("mixture") or {}
    if found and set(mixture) <= set(found):
        return found
    return {source: {"kind": "jsonl"} for source in mixture or ("mine",)}


def _sizes(model: dict[str, Any]) -> dict[str, Any]:
    """Widths for the model of a preset, with every choice of its that has a size kept a choice."""
    sizes = SIZES | {"first_k_dense_replace": min(1, model["first_k_dense_replace"])}
    if model["vocab_size"]:
        sizes["vocab_size"] = SMALL["tokenizer"]["vocabulary"]
    if model["q_lora_rank"]:
        sizes["q_lora_rank"] = 16
    if model["n_group"] > 1:
        sizes |= {"n_group": 4, "topk_group": 2}
    return sizes


def prose(seed: str, sentences: int) -> str:
    """English that a rule for text takes for text; no two seeds have much in common."""
    source = random.Random(seed)
    pools = {kind: words.split() for kind, words in WORDS.items()}

    def phrase() -> str:
        return f"the {source.choice(pools['adjective'])} {source.choice(pools['noun'])}"

    said = []
    for number in range(sentences):
        verb, adverb, place = (source.choice(pools[kind]) for kind in ("verb", "adverb", "place"))
        said.append(f"{phrase()} of {phrase()} {adverb} {verb} {phrase()} {place} {phrase()} and that of {phrase()}.")
        said[-1] = said[-1].capitalize() + ("\n" if number % 3 == 2 else " ")
    return "".join(said).strip()


def write_source(folder: Path, name: str, kind: str, documents: int = 24) -> Path:
    """A file of `documents` texts of one kind of source."""
    texts = [prose(f"{name} {number}", 12) for number in range(documents)]
    file = (
        folder / {"wiki": f"{name}.xml", "book": f"{name}.txt", "web": f"{name}.warc", "jsonl": f"{name}.jsonl"}[kind]
    )
    file.write_bytes(_content(kind, texts))
    return file


def _content(kind: str, texts: Sequence[str]) -> bytes:
    match kind:
        case "wiki":
            return wiki_dump(*(wiki_page(f"Page {number}", text) for number, text in enumerate(texts)))
        case "book":
            return "\n\n\n".join(f"CHAPTER {number}\n\n{text}" for number, text in enumerate(texts, 1)).encode()
        case "web":
            return b"".join(warc_record(f"http://h/{number}", page(text)) for number, text in enumerate(texts))
        case _:
            return "".join(
                json.dumps({"id": str(number), "text": text}) + "\n" for number, text in enumerate(texts)
            ).encode()
