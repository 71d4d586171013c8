"""A very small model that was taught a handful of answers, thoughts and all: what the tests of serving talk to."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from model.architecture.checkpoint import save_model
from model.architecture.config import Family
from model.architecture.transformer import Transformer
from model.release.quantized import make_plan, save_quantized
from model.release.rounding import rounded
from model.release.units import Role
from model.sections import Precision
from pipeline.sections import TokenizerConfig
from pipeline.tokens.chat_template import write_own_settings
from pipeline.tokens.tokenizer import chat_text, train_tokenizer
from tests.model.conftest import tiny_config

QUESTION = "Calculate 4 + 8 + 4."
THOUGHT, ANSWER = "4+8=12 12+4=16", "16"
CHATS = {QUESTION: (THOUGHT, ANSWER), "Say it in full.": ("one two three", "one two three four five six seven eight")}
WIDTHS = {"hidden_size": 64, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 16, "v_head_dim": 32}
WIDTHS |= {"moe_intermediate_size": 64, "intermediate_size": 64}


@cache
def words() -> Tokenizer:
    """Its tokenizer."""
    texts = [f"{question} {thought} {answer}" for question, (thought, answer) in CHATS.items()]
    return train_tokenizer(TokenizerConfig(vocabulary=320), iter(texts * 20))


@cache
def taught(family: Family = Family.DEEPSEEK_V3, seed: int = 0, *, predicts: bool = False) -> Transformer:
    """The model, trained until it says each answer by heart; where it `predicts` it also learns the token after."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    fields = WIDTHS | {"vocab_size": words().get_vocab_size(), "max_position_embeddings": 256}
    if predicts:
        fields |= {"num_nextn_predict_layers": 1, "q_lora_rank": 32}
    model = Transformer(tiny_config(family, **fields, initializer_range=0.05))
    rows = [words().encode(chat_text(q, *a), add_special_tokens=False).ids for q, a in CHATS.items()]
    longest = max(map(len, rows))
    tokens_BT = torch.tensor([row + [2] * (longest - len(row)) for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(200):
        losses = [
            F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), tokens_BT[:, ahead:].flatten(), ignore_index=2)
            for ahead, logits_BTV in enumerate(model(tokens_BT, mtp=True), 1)
        ]
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.03:
            break
    assert loss < 0.05
    return model.eval().requires_grad_(False)


def save_tokenizer(folder: Path) -> Path:
    """The tokenizer's files."""
    folder.mkdir(parents=True, exist_ok=True)
    words().save(str(folder / "tokenizer.json"))
    write_own_settings(folder)
    return folder


def save_talker(root: Path, model: Transformer | None = None) -> Path:
    """The model in 8 bits as the export stage would leave it: a folder of its own below `root`."""
    model = model or taught()
    save_model(model, root / "checkpoint", save_tokenizer(root / "tokenizer"))
    plan = make_plan(model, dict.fromkeys((Role.EXPERTS, Role.LINEAR, Role.EMBEDDINGS), Precision.Q8_0))
    stored = rounded(model, plan)
    layers = tuple(f"model.layers.{number}." for number in model.config.prediction_layers) or ("none",)
    prediction = {name: unit for name, unit in stored.items() if name.startswith(layers)}
    kept = {name: unit for name, unit in stored.items() if name not in prediction}
    save_quantized(root / "model", kept, root / "checkpoint", prediction)
    return root / "model"
