"""What is asked of Slurm, and that jobs end with who asked for them."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from infra.errors import UserError
from infra.execution import SlurmOptions
from infra.slurm import cancelled_at_the_end, outside_of_any_job, sbatch_options, unique_name, waiting, while_queued
from tests.infra import slurm


def test_options_left_empty_are_the_clusters_to_decide() -> None:
    assert sbatch_options(SlurmOptions(time_limit="1:00")) == {"time": "1:00"}
    options = SlurmOptions(partition="cpu", account="mill", arguments={"constraint": "avx2", "partition": "big"})
    assert sbatch_options(options) == {
        "partition": "big",
        "account": "mill",
        "time": "1-00:00:00",
        "constraint": "avx2",
    }


def test_a_job_that_submits_jobs_hides_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    with outside_of_any_job():
        assert "SLURM_ARRAY_TASK_ID" not in os.environ
        assert os.environ["SLURM_CONF"] == "/etc/slurm.conf"
    assert os.environ["SLURM_ARRAY_TASK_ID"] == "7"


def test_a_machine_without_slurm_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"^sbatch: no such program; run deepmill where Slurm's clients are"):
        cancelled_at_the_end("name")
    assert waiting("name") is None


@pytest.mark.drill
def test_jobs_are_waited_for_or_cancelled_with_the_block(
    slurm_variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in slurm_variables.items():
        monkeypatch.setenv(name, value)

    def submit(name: str, program: str) -> None:
        command = ["sbatch", f"--job-name={name}", "--array=0-5", "--output=/dev/null", "--wrap", program]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    short, long = unique_name("short"), unique_name("long")
    assert short != unique_name("short")
    with cancelled_at_the_end(short):
        submit(short, "true")
        seen = list(while_queued(short))
    assert seen
    with pytest.raises(KeyboardInterrupt), cancelled_at_the_end(long):  # noqa: PT012  (the block is what is tested)
        submit(long, "sleep 600")
        states = next(iter(while_queued(long)))
        assert len(states) == 6, "each job of the array, also those that wait for a processor"
        raise KeyboardInterrupt
    deadline = time.monotonic() + 60
    while slurm.jobs(slurm_variables) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert slurm.jobs(slurm_variables) == []
