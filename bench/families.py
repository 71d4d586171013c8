"""How far each family's logits are from its peer's: ``python -m bench.families [--quick] [--json FILE]``.

Ours and transformers' classes on the same random weights, fp32 on the CPU, in both directions: what we write is read by
transformers, and what transformers writes is read by us. DeepSeekMoE v1 has no class there: it is held by the tests
against a slow reference written from Eq 9-11.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench.table import bench_parser, write_rows

LIMIT = 2e-5
YARN = {"factor": 40.0, "original_max_position_embeddings": 64, "mscale": 1.0, "mscale_all_dim": 1.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "num_key_value_heads": 2},
    "llama, long context": {
        "model_type": "llama", "rope_scaling": {"low_freq_factor": 1.0, "original_max_position_embeddings": 64},
    },
    "mistral": {"model_type": "mistral", "num_key_value_heads": 2, "head_dim": 32},
    "qwen2": {"model_type": "qwen2", "num_key_value_heads": 2, "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "num_key_value_heads": 2, "head_dim": 32},
    "deepseek_v2": {"model_type": "deepseek_v2", "norm_topk_prob": False},
    "deepseek_v2, q_lora, groups": {
        "model_type": "deepseek_v2", "norm_topk_prob": False, "q_lora_rank": 48, "n_group": 4, "topk_group": 2,
    },
    "deepseek_v3": {"routed_scaling_factor": 2.5},
    "deepseek_v3, q_lora, groups": {
        "routed_scaling_factor": 2.5, "q_lora_rank": 48, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 4,
    },
    "deepseek_v3, q_lora, YaRN": {"routed_scaling_factor": 2.5, "q_lora_rank": 48, "rope_scaling": YARN},
}  # fmt: skip


def main() -> None:
    """Compare and print; with ``--json`` write the rows."""
    chosen = bench_parser(__doc__, "fewer tokens").parse_args()
    rows = [row for name in VARIANTS for row in compare(name, 32 if chosen.quick else 256)]
    for row in rows:
        mark = "holds" if row["holds"] else "MISSES"
        print(f"{row['metric']:<52} {row['ours']:.2e}   logits up to {row['scale']:.2f}   limit {LIMIT:.0e}   {mark}")
    write_rows(rows, chosen.json)


def compare(name: str, length: int) -> list[dict[str, Any]]:
    """Largest difference of two rows of logits, ours read by transformers and theirs read by us."""
    import torch
    from transformers import AutoModelForCausalLM

    from model.architecture.checkpoint import load_model, save_model
    from model.architecture.config import ModelConfig
    from model.architecture.transformer import Transformer

    torch.manual_seed(0)
    config = ModelConfig.model_validate({"vocab_size": 512, "initializer_range": 0.05} | VARIANTS[name])
    ours = Transformer(config).eval()
    with torch.no_grad():
        for name_of, parameter in ours.named_parameters():
            if name_of.endswith(("bias", "q_norm.weight", "k_norm.weight")):
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        for buffer_name, buffer in ours.named_buffers():
            if buffer_name.endswith("e_score_correction_bias"):
                buffer.uniform_(-0.1, 0.1)
    tokens = torch.randint(0, 512, (2, length))
    rows = []
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        save_model(ours, Path(folder) / "ours", None)
        peer = AutoModelForCausalLM.from_pretrained(Path(folder) / "ours", dtype=torch.float32)
        peer.save_pretrained(Path(folder) / "theirs")
        for way, model in (("theirs reads ours", ours), ("ours reads theirs", load_model(Path(folder) / "theirs"))):
            logits = peer(tokens).logits
            difference = (model(tokens) - logits).abs().max().item()
            rows.append(
                {
                    "metric": f"{name}: {way}",
                    "unit": "largest difference of logits",
                    "ours": difference,
                    "scale": logits.abs().max().item(),
                    "peers": {"transformers": 0.0},
                    "ratio": None,
                    "target": LIMIT,
                    "holds": difference <= LIMIT,
                }
            )
    return rows


if __name__ == "__main__":
    main()
