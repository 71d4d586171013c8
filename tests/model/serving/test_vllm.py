"""How vLLM is started, without one: its command, its environment, and what is told of its failures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.errors import UserError
from model.architecture.config import Family
from model.release.vllm_config import write_config
from model.serving.engine import Request, _delta
from model.serving.spec import EngineSpec
from model.serving.vllm import environment, first_error, vllm_command
from tests.model.conftest import tiny_config

NAMES = ("DEEPMILL_VLLM", "DEEPMILL_VLLM_OPTIONS", "VLLM_MLA_DISABLE", "VLLM_CPU_KVCACHE_SPACE", "OMP_NUM_THREADS")


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name in ("vllm", "python3.11"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)


def spec(folder: Path, family: Family = Family.DEEPSEEK_V3, **changes: object) -> EngineSpec:
    (folder / "config.json").write_text(json.dumps(tiny_config(family, **changes).to_hf()))
    return EngineSpec("vllm", str(folder), "secret", context=4096, slots=4, threads=3)


def test_the_command_or_the_python_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPMILL_VLLM_OPTIONS", "--dtype bfloat16 --chat-template 'a file'")
    for name, start in (
        ("vllm", ["serve", str(tmp_path)]),
        ("python3.11", ["-m", "vllm.entrypoints.openai.api_server", "--model", str(tmp_path)]),
    ):
        monkeypatch.setenv("DEEPMILL_VLLM", str(tmp_path / name))
        command = vllm_command(spec(tmp_path), 1234)
        assert command[: len(start) + 1] == [str(tmp_path / name), *start]
        assert command[-4:] == ["--dtype", "bfloat16", "--chat-template", "a file"]
        assert "secret" not in " ".join(command)
        assert {"--port", "1234", "--max-model-len", "4096", "--max-num-seqs", "4"} <= set(command)
    monkeypatch.setenv("DEEPMILL_VLLM_OPTIONS", "--dtype 'bfloat16")
    with pytest.raises(UserError, match="DEEPMILL_VLLM_OPTIONS: No closing quotation"):
        vllm_command(spec(tmp_path), 1234)
    monkeypatch.setenv("DEEPMILL_VLLM", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"none: no such command; install vLLM .* its Python, in DEEPMILL_VLLM"):
        vllm_command(spec(tmp_path), 1234)


def test_latent_attention_is_computed_where_there_is_no_right_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPMILL_VLLM", str(tmp_path / "vllm"))
    small = spec(tmp_path)
    assert json.loads(vllm_command(small, 1)[-1]) == {"custom_ops": ["-rotary_embedding"]}
    assert environment(small)["VLLM_MLA_DISABLE"] == "1"
    monkeypatch.setenv("VLLM_MLA_DISABLE", "0")
    assert "VLLM_MLA_DISABLE" not in environment(small)
    monkeypatch.delenv("VLLM_MLA_DISABLE")
    assert "VLLM_MLA_DISABLE" not in environment(spec(tmp_path, kv_lora_rank=512, qk_rope_head_dim=64))
    dense = spec(tmp_path, Family.LLAMA)
    assert "VLLM_MLA_DISABLE" not in environment(dense)
    assert "--compilation-config" not in vllm_command(dense, 1)


def test_the_first_family_is_told_to_vllm_as_one_without_a_latent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPMILL_VLLM", str(tmp_path / "vllm"))
    other = spec(tmp_path)
    assert not write_config(tmp_path)
    assert "--hf-config-path" not in vllm_command(other, 1)
    first = spec(tmp_path, Family.DEEPSEEK)
    assert write_config(tmp_path)
    assert environment(first)["VLLM_MLA_DISABLE"] == "1"
    command = vllm_command(first, 1)
    assert command[command.index("--hf-config-path") + 1] == str(tmp_path / "vllm-config")
    own = json.loads((tmp_path / "config.json").read_text())
    told = json.loads((tmp_path / "vllm-config" / "config.json").read_text())
    changed = {name for name in told if told[name] != own.get(name)}
    assert changed == {"model_type", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank"}
    assert (told["model_type"], told["architectures"]) == ("deepseek_v2", ["DeepseekForCausalLM"])


def test_silence_threads_and_as_much_memory_as_the_requests_need(tmp_path: Path) -> None:
    found = environment(spec(tmp_path))
    assert (found["VLLM_API_KEY"], found["OMP_NUM_THREADS"]) == ("secret", "3")
    assert found["VLLM_NO_USAGE_STATS"] == found["HF_HUB_OFFLINE"] == "1"
    assert found["VLLM_CPU_KVCACHE_SPACE"] == "1"
    # 3 layers, keys and values of 4 heads in float32, 4 requests of 4096 tokens: 640 wide they are 0.94 GiB, 768 1.13
    assert environment(spec(tmp_path, qk_nope_head_dim=576, qk_rope_head_dim=64))["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert environment(spec(tmp_path, qk_nope_head_dim=704, qk_rope_head_dim=64))["VLLM_CPU_KVCACHE_SPACE"] == "2"


def test_the_first_error_of_a_log_is_told() -> None:
    log = """
(APIServer pid=1) WARNING 11-26 10:57:05 [system_utils.py:255] errors like `OSError: [Errno 24] Too many open files`
(VllmWorker-0 pid=3) ERROR 11-26 11:31:09 [multiproc_executor.py:953] Traceback (most recent call last):
(VllmWorker-0 pid=3) ERROR 11-26 11:31:09 [multiproc_executor.py:953] ValueError: Head dimension 160 is not supported
(EngineCore pid=2) ERROR 11-26 11:31:09 [core.py:1] Exception: WorkerProc failed. See stack trace for root cause.
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.
"""
    assert first_error(log) == "ValueError: Head dimension 160 is not supported"
    assert first_error("(APIServer pid=1) pydantic.ValidationError: 1 error\n") is None
    assert first_error("ImportError: libtorch\n") == "ImportError: libtorch"
    assert first_error("usage: vllm\nvllm: error: unrecognized arguments\n") is None


def test_the_token_that_ends_an_answer_is_none_of_it() -> None:
    """An event as vLLM 0.32 sends it: the text is without the token, the log probabilities are with it."""
    told = {"tokens": ["6", "<|eos|>"], "token_logprobs": [-0.1, -0.2], "top_logprobs": [{"6": -0.1}, None]}
    choice = {"text": "6", "logprobs": told, "finish_reason": "stop", "stop_reason": None}
    (entry,) = _delta({}, choice).entries  # type: ignore[union-attr]
    assert (entry["token"], entry["logprob"], len(entry["top_logprobs"])) == ("6", -0.1, 1)
    for whole in ({"stop_reason": "6"}, {"finish_reason": "length"}):
        assert len(_delta({}, choice | whole).entries) == 2  # type: ignore[union-attr]


def test_grammars_are_asked_for_by_its_name() -> None:
    assert Request([1], 2, grammar="start: /a/").body()["structured_outputs"] == {"grammar": "start: /a/"}
    assert "structured_outputs" not in Request([1], 2).body()
