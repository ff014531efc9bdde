"""Run code of many kinds on clusters, and check what comes back and where it ran.

    python flows/validate_packaging.py                      every saved cluster
    python flows/validate_packaging.py slurm-cluster/ndoli  these

A case has passed if the right value came back from another process than the flow's, from within
a job where there is a scheduler, and in answer to this very run.
"""

from __future__ import annotations

import sys
import uuid
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

# Its neighbours are found however it is started.
if (_ROOT := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.insert(0, _ROOT)

from clustrix_prefect import ClusterTaskRunner
from clustrix_prefect.cli.running import run_flow
from clustrix_prefect.validation.check import Check
from clustrix_prefect.validation.clusters import cluster_named, environment_with, names_of
from clustrix_prefect.validation.packaging import run_cases
from clustrix_prefect.validation.report import conclude
from flows.travelling.cases import cases


def run_on(name: str, run: str) -> list[Check]:
    """All cases on one cluster, as a flow run of its own."""
    checks: list[Check] = []

    @flow(flow_run_name=f"packaging on {name}", persist_result=False)
    def packaging_on_a_cluster() -> None:
        omp = cluster.environment["OMP_NUM_THREADS"]
        checks.extend(run_cases(name, cluster, cases(), run, omp))

    try:
        cluster = environment_with(cluster_named(name), {"OMP_NUM_THREADS": "1"})
        packaging_on_a_cluster.with_options(task_runner=ClusterTaskRunner(cluster))()
    except Exception as error:  # one cluster's failure does not keep the others from being tried
        checks.append(Check.failed("running the cases", error, name))
    return checks


@flow(name="validate-packaging", persist_result=False)
def validate_packaging(clusters: list[str] | None = None) -> State[None]:
    """Code of many kinds must give the right value on each cluster, and prove that it ran there.

    Args:
        clusters: Cluster blocks by type and name, such as "slurm-cluster/ndoli". Default: all
            that are saved; this machine, if none is.
    """
    run = uuid.uuid4().hex
    checks = [check for name in names_of(clusters) for check in run_on(name, run)]
    return conclude(f"Packaging, run {run[:8]}", checks, key="packaging")


def main(*clusters: str) -> State[Any]:
    """Run code of many kinds on clusters, and check what comes back and where it ran.

    Args:
        clusters: such as slurm-cluster/ndoli; by default every saved one
    """
    return validate_packaging(list(clusters) or None, return_state=True)


if __name__ == "__main__":
    run_flow(main)
