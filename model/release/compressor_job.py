"""What the Python that has llmcompressor runs: ``python -I compressor_job.py (version | JOB.json)``.

Not imported by this project, and importing nothing of it. The job names a checkpoint in the Hugging Face layout, the
modules to quantize, calibration documents as tokens, and the folder for what comes out.
"""

import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any


def compress(job: dict[str, Any]) -> None:
    """GPTQ as llmcompressor does it, its other settings as they come."""
    import torch
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(job["checkpoint"], dtype=torch.float32)
    rows = [{"input_ids": tokens, "attention_mask": [1] * len(tokens)} for tokens in job["documents"]]
    recipe = GPTQModifier(config_groups=job["config_groups"], ignore=job["ignore"], dampening_frac=job["damping"])
    oneshot(
        model=model,
        dataset=Dataset.from_list(rows),
        recipe=recipe,
        num_calibration_samples=len(rows),
        max_seq_length=max(len(row["input_ids"]) for row in rows),
        shuffle_calibration_samples=False,
    )
    # one file, whatever the size: it is read back and written again
    model.save_pretrained(job["out"], save_compressed=True, max_shard_size="1000TB")


if __name__ == "__main__":
    if sys.argv[1] == "version":
        print(importlib.metadata.version("llmcompressor"))
    else:
        compress(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
