"""Starting the ranks of a training stage: on this machine, over a Slurm allocation, in a Kubernetes cluster."""

from infra.launch.job import run_job
from infra.launch.local import launch
from infra.launch.reports import RankError, RankKilledError

__all__ = ["RankError", "RankKilledError", "launch", "run_job"]
