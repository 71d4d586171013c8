"""The same numbers from our model, from transformers and from llama.cpp, for every family that they compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from infra.errors import UserError
from model.architecture.checkpoint import save_model
from model.architecture.config import Family
from model.architecture.hf_config import _ABSENT
from model.architecture.transformer import Transformer
from model.release.gguf import write_gguf
from model.release.quantized import plain_unit
from model.release.units import units
from model.release.verify import HOSTILE, verify_gguf
from tests.model.conftest import tiny_model
from tests.model.serving.talker import save_tokenizer, words

YARN = {"factor": 8.0, "original_max_position_embeddings": 16}
CASES = {
    "v3": (Family.DEEPSEEK_V3, {}),
    "v3 with q_lora": (Family.DEEPSEEK_V3, {"q_lora_rank": 32}),
    "v3 in groups": (Family.DEEPSEEK_V3, {"n_group": 4, "topk_group": 2}),
    "softmax gate": (Family.DEEPSEEK_V2, {}),
    "softmax gate with q_lora": (Family.DEEPSEEK_V2, {"q_lora_rank": 32, "routed_scaling_factor": 2.5}),
    "dense": (Family.LLAMA, {}),
    "dense, long context": (
        Family.LLAMA,
        {
            "rope_scaling": {"low_freq_factor": 1.0, "factor": 4.0, "original_max_position_embeddings": 64},
            "tie_word_embeddings": True,
        },
    ),
    "dense, biases": (Family.LLAMA, {"attention_bias": True, "num_key_value_heads": 2}),
    "dense, divided": (Family.LLAMA, {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    "qwen2, YaRN": (Family.QWEN2, {"rope_scaling": YARN | {"mscale": 0.0, "mscale_all_dim": 0.0, "beta_fast": 8.0}}),
    "v3, YaRN": (Family.DEEPSEEK_V3, {"q_lora_rank": 32, "rope_scaling": YARN}),
    "softmax gate, YaRN": (Family.DEEPSEEK_V2, {"rope_scaling": YARN | {"mscale": 0.707, "mscale_all_dim": 0.707}}),
    "mistral, wide heads": (Family.MISTRAL, {"num_key_value_heads": 2, "head_dim": 16}),
    "qwen2": (Family.QWEN2, {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "qwen3": (Family.QWEN3, {}),
    "qwen3, wide heads": (Family.QWEN3, {"num_key_value_heads": 2, "head_dim": 16}),
}


def make(case: str) -> Transformer:
    family, changes = CASES[case]
    widths = {"kv_lora_rank": 32, "moe_intermediate_size": 32, "v_head_dim": 16}
    return tiny_model(family, **(widths | changes | {"vocab_size": words().get_vocab_size()}))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def write(model: Transformer, tokenizer: Path, folder: Path) -> Path:
    path = folder / "model-f32.gguf"
    stored = {name: plain_unit(weight, None) for name, weight in units(model).items()}
    write_gguf(path, model.config, stored, tokenizer, name="tiny")
    return path


@pytest.mark.parametrize("case", CASES)
def test_llama_cpp_computes_the_same(case: str, tokenizer: Path, tmp_path: Path) -> None:
    model = make(case)
    found = verify_gguf(write(model, tokenizer, tmp_path), model, words())
    assert found.difference < 1e-4  # fifty times better than asked
    assert found.top1
    assert found.tokens


@pytest.mark.parametrize("case", CASES)
def test_transformers_computes_the_same(case: str, tokenizer: Path, tmp_path: Path) -> None:
    model = make(case)
    save_model(model, tmp_path, tokenizer)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    tokens_BT = torch.randint(7, model.config.vocab_size, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model.lm_head(model.hidden(tokens_BT)), theirs(tokens_BT).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", sorted(set(_ABSENT) - {Family.DEEPSEEK}))  # which transformers has no class for
def test_absent_keys_mean_what_transformers_takes_them_to_mean(family: Family) -> None:
    theirs = AutoConfig.for_model(family.value)
    assert {name: getattr(theirs, name) for name in _ABSENT[family]} == _ABSENT[family]


def test_another_model_is_noticed(tokenizer: Path, tmp_path: Path) -> None:
    path = write(make("v3"), tokenizer, tmp_path)
    changed = make("v3")
    with torch.no_grad():
        changed.lm_head.weight[3] += 0.5
    with pytest.raises(UserError, match="other probabilities"):
        verify_gguf(path, changed, words())


def test_transformers_reads_hostile_text_as_the_same_tokens(tokenizer: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(tokenizer)
    ours = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    for text in HOSTILE:
        assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text, add_special_tokens=False).ids
