"""Training and generation on one GPU beside transformers, on layers of DeepSeek-V2-Lite's shapes, the same weights.

Everybody trains fp32 weights under bf16 autocast with AdamW on packed rows of one document, in interleaved rounds.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.gpu import seconds
from bench.table import Row, row

LENGTH, ROWS, ROUNDS, STEPS = 2048, 8, 5, 3
MODEL: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 2048,
    "num_hidden_layers": 3,
    "num_attention_heads": 16,
    "kv_lora_rank": 512,
    "q_lora_rank": None,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "norm_topk_prob": True,
    "initializer_range": 0.02,
}
SMALL = {
    "vocab_size": 512,
    "hidden_size": 64,
    "num_attention_heads": 2,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 16,
    "intermediate_size": 128,
    "moe_intermediate_size": 32,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
}
PROMPTS, NEW_TOKENS = 64, 64


def measure(device: torch.device, quick: bool) -> list[Row]:
    """Training, then generation."""
    rounds = 2 if quick else ROUNDS
    length = LENGTH if device.type == "cuda" else 64
    return [*training(length, rounds, device), *memory(length, device), *generation(rounds, device)]


def _transformer(device: torch.device) -> Any:
    """A model of its own for each measurement, always with the same weights."""
    from model.architecture.config import ModelConfig
    from model.architecture.transformer import Transformer

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    torch.manual_seed(0)
    with device:
        return Transformer(ModelConfig.model_validate(MODEL if device.type == "cuda" else MODEL | SMALL))


def matrix_peak(device: torch.device) -> float:
    """Of products in the type that training uses, FLOP/s: the best of some large ones."""
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / min(seconds(lambda: a @ b, device) for _ in range(12))


def training(length: int, rounds: int, device: torch.device) -> list[Row]:
    """Tokens per second of ours, repeatable and not, with layers recomputed, and of transformers."""
    from model.planning.costs import flops_per_token
    from model.training.prepare import compile_parts

    transformer = _transformer(device)
    config = transformer.config
    peer, peer_step = _peer(transformer, device)
    our_step = _ours(transformer)

    def repeatable(step: Callable[[Tensor], float], value: bool) -> Callable[[Tensor], float]:
        def run(tokens: Tensor) -> float:
            torch.use_deterministic_algorithms(value)
            return step(tokens)

        return run

    def recomputed(tokens: Tensor) -> float:
        transformer.recomputes = True
        try:
            return our_step(tokens)
        finally:
            transformer.recomputes = False

    def by(experts: str) -> Callable[[Tensor], float]:
        def run(tokens: Tensor) -> float:
            peer.set_experts_implementation(experts)
            return peer_step(tokens)

        return run

    contenders: dict[str, Callable[[Tensor], float]] = {
        "ours": repeatable(our_step, True),
        "ours, not repeatable": repeatable(our_step, False),
        "ours, recomputed": repeatable(recomputed, True),
        "transformers grouped_mm": repeatable(by("grouped_mm"), False),
        "transformers eager": repeatable(by("eager"), False),
    }
    # Before anybody has trained, the same weights must give the same loss.
    tokens = torch.randint(0, config.vocab_size, (ROWS, length), generator=torch.Generator().manual_seed(0)).to(device)
    first = {name: step(tokens) for name, step in (("ours", our_step), ("transformers", by("grouped_mm")))}
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, step in contenders.items():
            spent = seconds(lambda step=step: [step(tokens) for _ in range(STEPS)], device)
            if number:
                found[name].append(spent)
    compile_parts(transformer)
    whole = repeatable(our_step, True)
    found["ours, compiled"] = [
        seconds(lambda: [whole(tokens) for _ in range(STEPS)], device) for _ in range(rounds + 1)
    ][1:]
    torch.use_deterministic_algorithms(False)
    profiled = _profile(lambda: our_step(tokens), device)
    speeds = {name: STEPS * tokens.numel() / statistics.median(times) for name, times in found.items()}
    ours = speeds.pop("ours")
    peak = matrix_peak(device)
    share, compiled_share = (
        speed * flops_per_token(config, length) / peak for speed in (ours, speeds["ours, compiled"])
    )
    print(f"matrix peak {peak / 1e12:.0f} TFLOP/s; times per round {found}\n{profiled}")
    peers = {name: speed for name, speed in speeds.items() if name.startswith("transformers")}
    return [
        row("first loss against transformers' (grouped_mm)", "nats", abs(first["ours"] - first["transformers"]), {},
            2e-2, most=True),
        row("training, repeatable", "tokens/s", ours, dict(peers), 1.2),
        row("training, not repeatable", "tokens/s", speeds["ours, not repeatable"], {"repeatable": ours}, None),
        row("training, compiled", "tokens/s", speeds["ours, compiled"], {"not compiled": ours}, None),
        row("training with layers recomputed", "tokens/s", speeds["ours, recomputed"], {"all kept": ours}, None),
        row("share of the matrix peak", "", share, {}, None),
        row("share of the matrix peak, compiled", "", compiled_share, {}, None),
    ]  # fmt: skip


def _ours(transformer: Any) -> Callable[[Tensor], float]:
    """A step of our engine that gives the loss."""
    from model.sections import TrainingConfig
    from model.training.batches import TrainingBatch
    from model.training.engine import SingleEngine

    engine = SingleEngine(transformer, TrainingConfig(batch_size=ROWS, balance_loss=0.0))

    def step(tokens: Tensor) -> float:
        engine.watch.begin(len(tokens))
        (loss,) = engine.losses(TrainingBatch(tokens, torch.zeros_like(tokens)))
        engine.watch.take_loss()
        mean = loss / (tokens.shape[0] * (tokens.shape[1] - 1))
        engine.backward(mean, last=True)
        engine.step(1e-5)
        engine.watch.finish_step(None, 0.0)
        return float(mean.detach())

    return step


def _peer(transformer: Any, device: torch.device) -> tuple[Any, Callable[[Tensor], float]]:
    """transformers' class with the same weights, and a step of it that gives the loss."""
    peer = _transformers(transformer, device, torch.float32).train()
    optimizer = torch.optim.AdamW(peer.parameters(), 1e-5, (0.9, 0.95), weight_decay=0.1, fused=True)

    def step(tokens: Tensor) -> float:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = peer(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return peer, step


def _transformers(transformer: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """The same model as transformers' class."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**transformer.config.to_hf())
    with device:
        peer = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    peer.load_state_dict(transformer.state_dict())
    return peer


def memory(length: int, device: torch.device) -> list[Row]:
    """The most memory of a step against what `deepmill plan` says, all kept and recomputed."""
    from model.planning.costs import Layout, training_memory

    if device.type != "cuda":
        return []
    rows = []
    for recompute in (False, True):
        transformer = _transformer(device)
        transformer.recomputes = recompute
        step = _ours(transformer)
        tokens = torch.randint(0, transformer.config.vocab_size, (ROWS, length), device=device)
        for number in range(3):
            if number == 1:
                torch.cuda.reset_peak_memory_stats()
            step(tokens)
        most = torch.cuda.max_memory_allocated()
        planned = training_memory(transformer.config, length, Layout(rows=ROWS, recompute=recompute, gpu=True))
        print(f"memory: {most / 1e9:.2f} GB, planned {planned.peak / 1e9:.2f} GB: {planned}")
        what = "recomputed" if recompute else "all kept"
        rows.append(row(f"planned memory over measured, {what}", "", planned.peak / most, {}, 0.9))
        del transformer, step
    return rows


def generation(rounds: int, device: torch.device) -> list[Row]:
    """New tokens per second of greedy generation to the limit, bf16 weights on a GPU."""
    from transformers import GenerationConfig

    from model.generation.generate import Sampling, generate

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    transformer = _transformer(device).to(dtype).eval()
    peer = _transformers(transformer, device, dtype).eval()
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(5, transformer.config.vocab_size, (PROMPTS, 32), generator=generator)
    settings = GenerationConfig(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0)

    def ours() -> list[list[int]]:
        sampling = Sampling(max_new_tokens=NEW_TOKENS)
        found = generate(transformer, prompts.tolist(), sampling, stop=-1, batch_size=PROMPTS, logprobs=False)
        return [completion.tokens for completion in found]

    def theirs() -> list[list[int]]:
        on_device = prompts.to(device)
        with torch.no_grad():
            out = peer.generate(on_device, attention_mask=torch.ones_like(on_device), generation_config=settings)
        return out[:, prompts.shape[1] :].tolist()

    found: dict[str, list[float]] = {"ours": [], "transformers": []}
    answers = {}
    for number in range(rounds + 1):
        for name, call in (("ours", ours), ("transformers", theirs)):
            answers[name] = call() if not number else answers[name]
            if number:
                found[name].append(seconds(call, device))
    first = [a[0] == b[0] for a, b in zip(answers["ours"], answers["transformers"], strict=True)]
    ours_fast, theirs_fast = (PROMPTS * NEW_TOKENS / statistics.median(times) for times in found.values())
    return [
        row("generation: first tokens that agree", "", sum(first) / len(first), {}, 0.9),
        row(f"generation, {PROMPTS} prompts", "tokens/s", ours_fast, {"transformers": theirs_fast}, 1.2),
    ]


def _profile(call: Callable[[], object], device: torch.device) -> str:
    """Where a step's time goes."""
    from torch.profiler import ProfilerActivity, profile

    if device.type != "cuda":
        return ""
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
        call()
        torch.cuda.synchronize()
    return str(found.key_averages().table(sort_by="self_cuda_time_total", row_limit=28, max_name_column_width=70))
