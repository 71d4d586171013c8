"""The part `serving` of `bench.release`: `deepmill serve` as a process of its own, under load from this one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from bench.table import Row, row

__all__ = ["serving"]

CLIENTS, TOKENS = 16, 16
KEY = "bench"


def serving(folder: Path, *, requests: int) -> list[Row]:
    """Requests per second, p99 and errors with 16 clients; time to the first token of one client alone."""
    with tempfile.TemporaryDirectory() as scratch, (Path(scratch) / "log").open("w") as log:
        command = [sys.executable, "-m", "flows.cli", "serve", str(folder), "--port", "0", "--context", "512"]
        process = subprocess.Popen(
            [*command, "--poll-seconds", "60"],
            env=os.environ | {"DEEPMILL_ROOT": scratch, "DEEPMILL_API_KEYS": KEY},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            url = _address(process, Path(scratch) / "log")
            return asyncio.run(_measure(url, requests))
        finally:
            process.terminate()
            process.wait(60)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        if found := [word for word in log.read_text().split() if word.startswith("http://")]:
            return found[0]
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"deepmill serve did not come up:\n{log.read_text()}")


async def _measure(url: str, requests: int) -> list[Row]:
    async with httpx.AsyncClient(
        base_url=url, timeout=120.0, trust_env=False, headers={"Authorization": f"Bearer {KEY}"}
    ) as client:
        model = (await client.get("/v1/models")).json()["data"][0]["id"]

        def body(number: int, **more: Any) -> dict[str, Any]:
            question = f"Calculate {number} + {number % 7} + 4."
            return {
                "model": model,
                "messages": [{"role": "user", "content": question}],
                "max_tokens": TOKENS,
                "temperature": 0,
            } | more

        first = sorted([await _first_token(client, body(number, stream=True)) for number in range(20)])
        queue = iter(range(requests))
        times: list[float] = []
        errors: list[str] = []

        async def ask() -> None:
            for number in queue:
                begun = time.perf_counter()
                answer = await client.post("/v1/chat/completions", json=body(number))
                times.append(time.perf_counter() - begun)
                if answer.status_code != 200 or not answer.json()["choices"]:
                    errors.append(f"{answer.status_code}: {answer.text[:200]}")

        begun = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(CLIENTS)))
        seconds = time.perf_counter() - begun
    for error in errors[:3]:
        print(error)
    times.sort()
    return [
        row("served requests", "1/s", requests / seconds, {}, None),
        row(f"p99 of a request, {CLIENTS} clients", "ms", 1e3 * times[int(len(times) * 0.99) - 1], {}, None),
        row("time to the first token, median", "ms", 1e3 * first[len(first) // 2], {}, None),
        row("errors under load", "", len(errors), {}, 0, most=True),
    ]


async def _first_token(client: httpx.AsyncClient, body: dict[str, Any]) -> float:
    begun, found = time.perf_counter(), None
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        async for line in response.aiter_lines():
            if found is None and line.startswith("data: {"):
                choices = json.loads(line.removeprefix("data: "))["choices"]
                delta = choices[0]["delta"] if choices else {}
                if delta.get("content") or delta.get("reasoning_content"):
                    found = time.perf_counter() - begun
    return time.perf_counter() - begun if found is None else found
