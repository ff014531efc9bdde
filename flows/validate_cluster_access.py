"""Check that clusters let us in, have what calls need, and take and cancel a job.

    python flows/validate_cluster_access.py                      every saved cluster
    python flows/validate_cluster_access.py slurm-cluster/ndoli  these

The run fails if anything is wrong; its page says what, and what to do about it.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.task_runners import ThreadPoolTaskRunner

from clustrix_prefect.cli.running import run_flow
from clustrix_prefect.validation.access import check_access
from clustrix_prefect.validation.check import Check
from clustrix_prefect.validation.clusters import cluster_named, names_of
from clustrix_prefect.validation.report import conclude


@task(task_run_name="{cluster}", cache_policy=NO_CACHE, persist_result=False)
def look_at(cluster: str) -> list[Check]:
    """Look at one cluster."""
    log = get_run_logger()
    checks = []
    for check in check_access(cluster, cluster_named(cluster)):
        log.log(check.log_level, "%s", check)
        checks.append(check)
    return checks


@flow(
    name="validate-cluster-access",
    task_runner=ThreadPoolTaskRunner(max_workers=8),
    persist_result=False,
)
def validate_cluster_access(clusters: list[str] | None = None) -> State[None]:
    """Log in, look for Python, the scheduler and the work directory, submit and cancel a job.

    Args:
        clusters: Cluster blocks by type and name, such as "slurm-cluster/ndoli". Default: all
            that are saved; this machine, if none is.
    """
    names = names_of(clusters)
    futures = look_at.map(names)
    answers = [future.result(raise_on_failure=False) for future in futures]
    checks: list[Check] = []
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, BaseException):
            checks.append(Check.failed("looking at it", answer, name))
        else:
            checks += answer
    return conclude("Access to clusters", checks, key="cluster-access")


def main(*clusters: str) -> State[Any]:
    """Check that clusters let us in, have what calls need, and take and cancel a job.

    Args:
        clusters: such as slurm-cluster/ndoli; by default every saved one
    """
    return validate_cluster_access(list(clusters) or None, return_state=True)


if __name__ == "__main__":
    run_flow(main)
