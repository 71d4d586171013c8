"""The model against transformers' own classes, a slow reference of DeepSeekMoE, and itself under masks and caches.

Largest differences of logits seen on these weights (fp32, one thread) stand in docs/experiments.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.modeling_layers import MtpModel

from model.architecture.cache import KVCache
from model.architecture.checkpoint import load_model, save_model
from model.architecture.config import Family
from model.architecture.packed import BEGINNING
from model.architecture.transformer import Transformer
from tests.model.conftest import tiny_config, tiny_model

YARN: dict[str, object] = {"factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 8.0}
VARIANTS = {
    "v3": (Family.DEEPSEEK_V3, {}),
    "v3-q-lora-groups": (Family.DEEPSEEK_V3, {"q_lora_rank": 24, "n_group": 4, "topk_group": 2}),
    "v3-tied": (Family.DEEPSEEK_V3, {"tie_word_embeddings": True}),
    "v2": (Family.DEEPSEEK_V2, {}),
    "v2-groups": (Family.DEEPSEEK_V2, {"q_lora_rank": 24, "n_group": 4, "topk_group": 2, "routed_scaling_factor": 2.0}),
    "v3-yarn": (Family.DEEPSEEK_V3, {"q_lora_rank": 24, "rope_scaling": YARN}),
    "v2-yarn": (Family.DEEPSEEK_V2, {"rope_scaling": YARN | {"mscale": 0.707, "mscale_all_dim": 0.707}}),
    "v2-yarn-uneven": (Family.DEEPSEEK_V2, {"rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 0.5}}),
    "llama": (Family.LLAMA, {}),
    "llama-yarn": (Family.LLAMA, {"rope_scaling": YARN | {"mscale": 0, "mscale_all_dim": 0}}),
}
ALL = {**VARIANTS, "v1": (Family.DEEPSEEK, {})}


def _tokens(rows: int, length: int) -> Tensor:
    return torch.randint(0, 97, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("variant", VARIANTS)
def test_transformers_reads_what_we_write(variant: str, tmp_path: Path) -> None:
    family, changes = VARIANTS[variant]
    model = tiny_model(family, **changes)
    save_model(model, tmp_path, None)
    peer, report = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    tokens_BT = _tokens(3, 40)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens_BT), peer(tokens_BT).logits, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_we_read_what_transformers_writes(variant: str, tmp_path: Path) -> None:
    family, changes = VARIANTS[variant]
    save_model(tiny_model(family, **changes), tmp_path / "ours", None)
    peer = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32)
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.mul_(1.1)
    peer.save_pretrained(tmp_path / "theirs")
    tokens_BT = _tokens(2, 20)
    with torch.no_grad():
        ours = load_model(tmp_path / "theirs")(tokens_BT)
        torch.testing.assert_close(ours, peer(tokens_BT).logits, atol=2e-5, rtol=1e-5)


def _slow_deepseek(model: Transformer, tokens_T: Tensor) -> Tensor:
    """DeepSeekMoE token by token, from the equations: multi-head attention with rotary halves, Eq 9-11."""
    config = model.config
    heads, dim = config.num_attention_heads, config.head_width
    weights = model.state_dict()

    def norm(x: Tensor, name: str) -> Tensor:
        return x / (x.pow(2).mean() + config.rms_norm_eps).sqrt() * weights[f"{name}.weight"]

    def rotate(x: Tensor, position: int) -> Tensor:
        y = x.clone()
        for pair in range(dim // 2):
            angle = torch.tensor(position * config.rope_theta ** (-2 * pair / dim))
            a, b = x[:, pair], x[:, pair + dim // 2]
            y[:, pair] = a * angle.cos() - b * angle.sin()
            y[:, pair + dim // 2] = b * angle.cos() + a * angle.sin()
        return y

    def swiglu(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
        return down @ (F.silu(gate @ x) * (up @ x))

    def feed_forward(x: Tensor, name: str) -> Tensor:
        return swiglu(x, *(weights[f"{name}.{part}_proj.weight"] for part in ("gate", "up", "down")))

    stream = [weights["model.embed_tokens.weight"][token] for token in tokens_T]
    for layer in range(config.num_hidden_layers):
        name = f"model.layers.{layer}"
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for position, x in enumerate(stream):
            h = norm(x, f"{name}.input_layernorm")
            query, key, value = (
                (weights[f"{name}.self_attn.{part}_proj.weight"] @ h).view(heads, dim) for part in ("q", "k", "v")
            )
            keys.append(rotate(key, position))
            values.append(value)
            query = rotate(query, position)
            mixed = []
            for head in range(heads):
                scores = torch.stack([query[head] @ k[head] / dim**0.5 for k in keys]).softmax(0)
                mixed.append(sum(s * v[head] for s, v in zip(scores, values, strict=True)))
            u = x + weights[f"{name}.self_attn.o_proj.weight"] @ torch.cat(mixed)
            h = norm(u, f"{name}.post_attention_layernorm")
            if not config.is_moe_layer(layer):
                stream[position] = u + feed_forward(h, f"{name}.mlp")
                continue
            out = u + feed_forward(h, f"{name}.mlp.shared_experts")
            s = (weights[f"{name}.mlp.gate.weight"] @ h).softmax(0)
            for expert in sorted(range(config.n_routed_experts), key=lambda e: -s[e])[: config.num_experts_per_tok]:
                gate, up = weights[f"{name}.mlp.experts.gate_up_proj"][expert].chunk(2)
                out = out + s[expert] * swiglu(h, gate, up, weights[f"{name}.mlp.experts.down_proj"][expert])
            stream[position] = out
    return torch.stack([weights["lm_head.weight"] @ norm(x, "model.norm") for x in stream])


def test_deepseek_v1_equals_the_equations() -> None:
    model = tiny_model(Family.DEEPSEEK)
    tokens_BT = _tokens(2, 12)
    with torch.no_grad():
        logits_BTV = model(tokens_BT)
        for row in range(2):
            torch.testing.assert_close(logits_BTV[row], _slow_deepseek(model, tokens_BT[row]), atol=2e-5, rtol=1e-5)


def test_multi_token_prediction_equals_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(Family.DEEPSEEK_V3, num_nextn_predict_layers=2)
    save_model(model, tmp_path, None)
    main = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    # transformers knows by name the one layer of V3 itself, number 61
    monkeypatch.setattr(main, "_keys_to_ignore_on_load_unexpected", [r"model\.layers\.[34]\."])
    peer = MtpModel.from_pretrained(main)
    tokens_BT = _tokens(1, 20)
    with torch.no_grad():
        _, *ours = model(tokens_BT, mtp=True)
        state_BTD = main.model(tokens_BT).last_hidden_state
        for depth, logits_BtV in enumerate(ours, 1):
            length = 20 - depth
            assert logits_BtV.shape == (1, length, 97)
            positions = torch.arange(depth, 20)[None]
            state_BTD = peer.forward_layer(
                depth - 1, state_BTD[:, :length], positions, None, input_ids=tokens_BT[:, depth:]
            )
            torch.testing.assert_close(logits_BtV, peer.shared_head(state_BTD), atol=2e-5, rtol=1e-5)


def test_the_model_is_whole_without_its_prediction_layers(tmp_path: Path) -> None:
    model = tiny_model(Family.DEEPSEEK_V3, num_nextn_predict_layers=1)
    save_model(model, tmp_path, None)
    tokens_BT = _tokens(2, 12)
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path)(tokens_BT), model(tokens_BT), atol=0, rtol=0)
        again = load_model(tmp_path, prediction=True)
        for mine, other in zip(again(tokens_BT, mtp=True), model(tokens_BT, mtp=True), strict=True):
            torch.testing.assert_close(mine, other, atol=0, rtol=0)


def test_prediction_layers_keep_documents_apart() -> None:
    model = tiny_model(Family.DEEPSEEK_V3, num_nextn_predict_layers=1)
    tokens_BT = _tokens(1, 20)
    documents_BT = torch.tensor([[0] * 9 + [1] * 11])
    with torch.no_grad():
        _, packed = model(tokens_BT, documents_BT=documents_BT, mtp=True)
        _, first = model(tokens_BT[:, :9], mtp=True)
        _, second = model(tokens_BT[:, 9:], mtp=True)
    torch.testing.assert_close(packed[:, :8], first, atol=2e-5, rtol=1e-5)  # position 8 takes the next document's token
    torch.testing.assert_close(packed[:, 9:], second, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", ALL)
def test_recomputing_changes_no_gradient(variant: str) -> None:
    family, changes = ALL[variant]
    gradients = []
    for recomputes in (False, True):
        model = tiny_model(family, **changes).train()
        model.recomputes = recomputes
        model(_tokens(2, 16)).square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, atol=0, rtol=0)


@pytest.mark.parametrize("variant", ALL)
def test_packed_documents_do_not_see_each_other(variant: str) -> None:
    family, changes = ALL[variant]
    model = tiny_model(family, **changes)
    tokens_BT = _tokens(2, 30)
    documents_BT = torch.tensor([[0] * 7 + [1] * 12 + [2] * 11, [0] * 30])
    with torch.no_grad():
        packed = model(tokens_BT, documents_BT=documents_BT)
        apart = torch.cat([model(part) for part in tokens_BT[:1].split((7, 12, 11), dim=1)], dim=1)
        torch.testing.assert_close(packed[:1], apart, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(packed[1:], model(tokens_BT[1:]), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", ALL)
def test_branches_of_one_beginning_equal_separate_ones(variant: str) -> None:
    family, changes = ALL[variant]
    model = tiny_model(family, **changes)
    start_BT, one_BT, two_BT = _tokens(1, 30).split((7, 12, 11), dim=1)
    documents_BT = torch.tensor([[BEGINNING] * 7 + [0] * 12 + [1] * 11])
    positions_BT = torch.tensor([[*range(7), *range(7, 19), *range(7, 18)]])
    row_BT = torch.cat([start_BT, one_BT, two_BT], dim=1)
    for is_trained in (False, True):  # two kernels
        with torch.set_grad_enabled(is_trained):
            together = model(row_BT, documents_BT=documents_BT, positions_BT=positions_BT)
            one, two = (model(torch.cat([start_BT, branch_BT], dim=1)) for branch_BT in (one_BT, two_BT))
            torch.testing.assert_close(together[:, :19], one, atol=2e-5, rtol=1e-5)
            torch.testing.assert_close(together[:, 19:], two[:, 7:], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", ALL)
@pytest.mark.parametrize("chunks", [[1] * 24, [15, 1, 1, 5, 1, 1], [24]])
def test_cached_equals_uncached(variant: str, chunks: list[int]) -> None:
    family, changes = ALL[variant]
    model = tiny_model(family, **changes)
    tokens_BT = _tokens(2, 24)
    cache = KVCache(model.config, batch=2, capacity=24)
    with torch.no_grad():
        cached = torch.cat([model(part, cache=cache) for part in tokens_BT.split(chunks, dim=1)], dim=1)
        torch.testing.assert_close(cached, model(tokens_BT), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", ALL)
@pytest.mark.parametrize("side", ["left", "right"])
def test_prompts_of_unequal_length_share_a_cache(variant: str, side: str) -> None:
    family, changes = ALL[variant]
    model = tiny_model(family, **changes)
    lengths, longest, more = [9, 4, 13], 13, 5
    tokens_BT = _tokens(3, longest + more)
    prompt_BT = torch.zeros(3, longest, dtype=torch.int64)
    positions_BT = torch.full((3, longest), -1)
    for row, length in enumerate(lengths):
        where = slice(0, length) if side == "right" else slice(longest - length, longest)
        prompt_BT[row, where] = tokens_BT[row, :length]
        positions_BT[row, where] = torch.arange(length)
    cache = KVCache(model.config, batch=3, capacity=longest + more)
    with torch.no_grad():
        first = model(prompt_BT, positions_BT=positions_BT, cache=cache)
        assert first.isfinite().all()
        cache.select(torch.tensor([2, 0, 1, 0]))  # reordered, and one prompt twice
        order = [2, 0, 1, 0]
        steps = []
        for step in range(more):
            token = torch.stack([tokens_BT[row, lengths[row] + step] for row in order])
            steps.append(model(token[:, None], cache=cache))
        for place, row in enumerate(order):
            whole = model(tokens_BT[row : row + 1, : lengths[row] + more])[0]
            torch.testing.assert_close(torch.cat(steps, dim=1)[place], whole[lengths[row] :], atol=2e-5, rtol=1e-5)
            torch.testing.assert_close(first[row][positions_BT[row] >= 0], whole[: lengths[row]], atol=2e-5, rtol=1e-5)


def test_a_full_cache_is_refused() -> None:
    model = tiny_model()
    with pytest.raises(ValueError, match="holds 4 tokens"):
        model(_tokens(1, 5), cache=KVCache(model.config, batch=1, capacity=4))


def test_an_unresolved_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="with_vocabulary"):
        Transformer(tiny_config(vocab_size=0))
