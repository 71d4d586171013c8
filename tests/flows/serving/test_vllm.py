"""`deepmill serve --engine vllm` with a real vLLM: the official client, thoughts apart, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import openai
import psutil
import pytest

from tests.model.serving.talker import ANSWER, QUESTION, THOUGHT

pytestmark = [
    pytest.mark.drill,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not os.environ.get("DEEPMILL_VLLM"), reason="DEEPMILL_VLLM names no vLLM"),
]


def test_the_client_gets_thoughts_and_answer(talkers: dict[str, Path], tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "flows.cli", "serve", str(talkers["1"]), "--engine", "vllm", "--port", "0"]
    place = {
        "DEEPMILL_API_KEYS": "none",
        "DEEPMILL_ROOT": str(tmp_path / "store"),
        "DEEPMILL_VLLM_OPTIONS": "--enforce-eager",
    }
    with log.open("w") as handle:
        server = subprocess.Popen(
            [*command, "--threads", "1", "--context", "160", "--concurrency", "2"],
            env=os.environ | place,
            stdout=handle,
            stderr=subprocess.STDOUT,
        )
    try:
        while "http://" not in log.read_text():
            assert server.poll() is None, log.read_text()
            time.sleep(0.2)
        url = next(word for word in log.read_text().split() if word.startswith("http://"))
        children = psutil.Process(server.pid).children(recursive=True)
        assert any("vllm" in " ".join(child.cmdline()).lower() for child in children)
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        ask = {
            "model": client.models.list().data[0].id,
            "messages": [{"role": "user", "content": QUESTION}],
            "temperature": 0,
        }
        found = client.chat.completions.create(**ask)
        message = found.choices[0].message
        assert (message.content, message.model_extra["reasoning_content"]) == (ANSWER, THOUGHT)
        assert found.choices[0].finish_reason == "stop"
        said = {"content": "", "reasoning_content": ""}
        pieces = list(client.chat.completions.create(**ask, stream=True))
        for piece in pieces:
            for kind in said:
                said[kind] += getattr(piece.choices[0].delta, kind, None) or ""
        assert said == {"content": ANSWER, "reasoning_content": THOUGHT}
        assert len(pieces) > 5
        cut = client.chat.completions.create(**ask, max_tokens=4)
        assert cut.choices[0].finish_reason == "length"
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model=ask["model"], messages=[{"role": "user", "content": QUESTION * 40}])
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, gone
