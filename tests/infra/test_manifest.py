"""The JobSet that Kubernetes is given, against the schema that Kubeflow's models carry; the command of srun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.errors import UserError
from infra.execution import Execution, KubernetesJob, Launcher, SlurmOptions
from infra.launch import kubernetes, run_job, slurm
from infra.launch.node import command, place
from infra.launch.node_job import NodeJob

JOB = NodeJob(
    target="a.b:c",
    argument={},
    nodes=3,
    ranks_per_node=4,
    restarts=2,
    timeout_seconds=600,
    reports="/deepmill/store/reports",
    environment={"DEEPMILL_EXECUTION": "{}"},
)
PATH = Path("/deepmill/store/launch/job.json")


def _wide(**options: object) -> Execution:
    return Execution(ranks=12, nodes=3, launcher=Launcher.KUBERNETES, kubernetes=KubernetesJob.model_validate(options))


@pytest.fixture
def job_set() -> Any:
    """Kubeflow's model; with it come hundreds, whose seconds only the worker that has this file is to pay."""
    from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet

    return JobsetV1alpha2JobSet


@pytest.mark.parametrize("options", [{}, {"gpus": 8, "cpu": "32", "memory": "256Gi", "namespace": "lab"}])
def test_the_manifest_is_a_jobset(options: dict[str, object], job_set: Any) -> None:
    """Every key is one the schema has, and has its type: what the models do not know would not come back."""
    made = kubernetes.manifest(JOB, PATH, _wide(**options))
    known = job_set.from_dict(made)
    assert known is not None
    assert known.to_dict() == made
    (nodes,) = made["spec"]["replicatedJobs"]
    assert nodes["template"]["spec"]["parallelism"] == nodes["template"]["spec"]["completions"] == 3
    (container,) = nodes["template"]["spec"]["template"]["spec"]["containers"]
    assert container["command"][-1] == str(PATH)
    variables = {variable["name"]: variable for variable in container["env"]}
    name = made["metadata"]["name"]
    assert variables["DEEPMILL_HEAD"]["value"].startswith(f"{name}-node-0-0.{made['spec']['network']['subdomain']}:")
    assert container["resources"]["limits"].get("nvidia.com/gpu") == (str(options["gpus"]) if options else None)


def test_the_schema_would_notice(job_set: Any) -> None:
    made = kubernetes.manifest(JOB, PATH, _wide())
    made["spec"]["replicatedJobs"][0]["template"]["spec"]["paralelism"] = 3
    known = job_set.from_dict(made)
    assert known is None or known.to_dict() != made
    made["spec"]["failurePolicy"]["maxRestarts"] = "many"
    with pytest.raises(ValueError, match="maxRestarts"):
        job_set.from_dict(made)


def test_papers_outside_of_the_volume_are_refused() -> None:
    with pytest.raises(UserError, match=r"not below /elsewhere|no kubectl here"):
        kubernetes.run(JOB, PATH, _wide(mount="/elsewhere"))


def test_nodes_need_a_launcher_and_ranks_to_share(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nodes 2 needs a launcher"):
        run_job("a.b:c", {}, Execution(ranks=2, nodes=2), tmp_path)
    with pytest.raises(UserError, match="nodes 2 does not divide the 3 ranks"):
        run_job("a.b:c", {}, Execution(ranks=3, nodes=2, launcher=Launcher.SLURM), tmp_path)


def test_the_command_of_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    options = SlurmOptions(partition="gpu", time_limit="2-0", arguments={"gres": "gpu:8"})
    words = slurm.command(PATH, Execution(ranks=12, nodes=3, slurm=options))
    assert {"--nodes=3", "--ntasks-per-node=1", "--partition=gpu", "--time=2-0", "--gres=gpu:8"} <= set(words)
    assert words[-3:] == ["-m", "infra.launch.node", str(PATH)]


def test_a_node_knows_its_place() -> None:
    assert place({"DEEPMILL_NODE": "2", "DEEPMILL_HEAD": "head:29400"}) == (2, "head:29400")
    with pytest.raises(UserError, match="start nodes through a launcher"):
        place({})
    words = command(JOB, PATH, 0, "head:29400", "10.0.0.1")
    assert {"--nnodes=3", "--nproc-per-node=4", "--rdzv-endpoint=head:29400", "--local-addr=10.0.0.1"} <= set(words)
    assert any("is_host=1" in word for word in words)
