"""Ranks in a Kubernetes cluster: a JobSet (jobset.x-k8s.io/v1alpha2) of one indexed job with a pod per node.

The pods mount the volume that holds the store, so that they see the stage's inputs, its checkpoints and the job
files under the same paths as this process, which applies the manifest with `kubectl` and follows it to its end. A pod
that goes takes the job with it, and the JobSet starts all of them again, as often as the execution allows.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import zlib
from pathlib import Path

from infra.errors import UserError
from infra.execution import Execution
from infra.json_objects import JsonObject
from infra.launch.node_job import FIRST_PORT, HEAD, NodeJob
from infra.launch.reports import RankKilledError, newest_report, raise_report

__all__ = ["manifest", "run"]

POLL_SECONDS = 5.0


def manifest(job: NodeJob, path: Path, wide: Execution) -> JsonObject:
    """The JobSet of a job whose job file lies at `path`."""
    options = wide.kubernetes
    name = f"deepmill-{zlib.crc32(str(path).encode()):08x}"
    index = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    variables = [
        {"name": "DEEPMILL_NODE", "valueFrom": index},
        {"name": HEAD, "value": f"{name}-node-0-0.{name}:{FIRST_PORT}"},
        *({"name": key, "value": value} for key, value in sorted(job.environment.items())),
    ]
    limits = {"cpu": options.cpu, "memory": options.memory, "nvidia.com/gpu": str(options.gpus or "")}
    container = {
        "name": "node",
        "image": options.image,
        "command": ["python", "-m", "infra.launch.node", str(path)],
        "env": variables,
        "ports": [{"containerPort": FIRST_PORT, "protocol": "TCP"}],
        "resources": {"limits": {key: value for key, value in limits.items() if value}},
        "volumeMounts": [
            {"name": "store", "mountPath": options.mount},
            {"name": "memory", "mountPath": "/dev/shm"},
        ],
    }
    pod = {
        "restartPolicy": "Never",
        # longer than torchrun gives its ranks, which save on SIGTERM
        "terminationGracePeriodSeconds": 60,
        "containers": [container],
        "volumes": [
            {"name": "store", "persistentVolumeClaim": {"claimName": options.volume}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
        ],
    }
    nodes = {
        "parallelism": job.nodes,
        "completions": job.nodes,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # one pod that fails fails them all: they wait for each other
        "template": {"spec": pod},
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name, "namespace": options.namespace, "labels": {"app.kubernetes.io/name": "deepmill"}},
        "spec": {
            "network": {"enableDNSHostnames": True, "subdomain": name, "publishNotReadyAddresses": True},
            "failurePolicy": {"maxRestarts": job.restarts},
            "replicatedJobs": [{"name": "node", "replicas": 1, "template": {"spec": nodes}}],
        },
    }


def run(job: NodeJob, path: Path, wide: Execution) -> None:
    """Apply the manifest and wait for its end; see `infra.launch.job.run_job` for what it raises."""
    options = wide.kubernetes
    if shutil.which("kubectl") is None:
        raise UserError("execution.launcher kubernetes: there is no kubectl here; install it, or use local")
    if not path.is_relative_to(options.mount):
        raise UserError(f"{path}: not below {options.mount}, where the pods mount the store; set kubernetes.mount")
    described = manifest(job, path, wide)
    written = path.with_name("jobset.json")
    written.write_text(json.dumps(described, indent=2), encoding="utf-8")
    name = described["metadata"]["name"]
    _kubectl(wide, "delete", "jobset", name, "--ignore-not-found", "--wait=true")
    _kubectl(wide, "apply", "-f", str(written))
    try:
        while not (ended := _ended(wide, name)):
            time.sleep(POLL_SECONDS)
    finally:
        _kubectl(wide, "delete", "jobset", name, "--ignore-not-found", "--wait=true")
    if ended == "Completed":
        return
    if report := newest_report(Path(job.reports)):
        raise_report(report)
    raise RankKilledError(f"the JobSet {name} failed: its pods were killed more often than {job.restarts} times")


def _ended(wide: Execution, name: str) -> str:
    """ "Completed" or "Failed" once the JobSet is; empty before."""
    status = json.loads(_kubectl(wide, "get", "jobset", name, "-o", "json")).get("status", {})
    for condition in status.get("conditions", []):
        if condition["type"] in ("Completed", "Failed") and condition["status"] == "True":
            return str(condition["type"])
    return ""


def _kubectl(wide: Execution, *arguments: str) -> str:
    done = subprocess.run(
        ["kubectl", "--namespace", wide.kubernetes.namespace, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        raise UserError(f"kubectl {arguments[0]}: {reason}; look at the cluster with kubectl, or use another launcher")
    return done.stdout
