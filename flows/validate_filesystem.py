"""Check that the files of clusters are as expected.

    python flows/validate_filesystem.py                      every saved cluster
    python flows/validate_filesystem.py slurm-cluster/ndoli  these

What is expected stands in deployments/expectations.yaml, or in the file that `--expectations`
names. Beside it each cluster gets a few files that are known, and is asked about them.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.task_runners import ThreadPoolTaskRunner

from clustrix_prefect.cli.running import run_flow
from clustrix_prefect.validation.check import Check
from clustrix_prefect.validation.clusters import cluster_named, names_of
from clustrix_prefect.validation.expectations import Expectation, expectations_from, placed
from clustrix_prefect.validation.filesystem import check_filesystem
from clustrix_prefect.validation.report import conclude

EXPECTATIONS = Path(__file__).resolve().parent.parent / "deployments" / "expectations.yaml"


@task(task_run_name="{cluster}", cache_policy=NO_CACHE, persist_result=False)
def look_at(cluster: str, expectations: list[Expectation]) -> list[Check]:
    """Look at the files of one cluster."""
    log = get_run_logger()
    checks = []
    for check in check_filesystem(cluster, cluster_named(cluster), expectations):
        log.log(logging.INFO if check.is_ok else logging.ERROR, "%s", check)
        checks.append(check)
    return checks


@flow(
    name="validate-filesystem",
    task_runner=ThreadPoolTaskRunner(max_workers=8),
    persist_result=False,
)
def validate_filesystem(
    clusters: list[str] | None = None,
    expectations: list[Expectation] | str | None = None,
) -> State[None]:
    """Hold the files of each cluster against what is expected of them.

    Args:
        clusters: Cluster blocks by type and name, such as "slurm-cluster/ndoli". Default: all
            that are saved; this machine, if none is.
        expectations: What is expected, or the path of a YAML file with it. Default:
            deployments/expectations.yaml.
    """
    names = names_of(clusters)
    wanted, checks = placed(
        expectations_from(EXPECTATIONS if expectations is None else expectations), names
    )
    futures = [look_at.submit(name, wanted) for name in names]
    for name, future in zip(names, futures, strict=True):
        answer = future.result(raise_on_failure=False)
        if isinstance(answer, BaseException):
            checks.append(Check.failed("looking at it", answer, name))
        else:
            checks += answer
    return conclude("Files of clusters", checks, key="filesystem")


def main(*clusters: str, expectations: str | None = None) -> State[Any]:
    """Check that the files of clusters are as expected.

    Args:
        clusters: such as slurm-cluster/ndoli; by default every saved one
        expectations: a YAML file; by default deployments/expectations.yaml
    """
    return validate_filesystem(list(clusters) or None, expectations, return_state=True)


if __name__ == "__main__":
    run_flow(main)
