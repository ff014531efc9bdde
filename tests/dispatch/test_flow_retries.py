"""A flow that is tried again calls the same functions with the same arguments."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, LocalCluster, SlurmCluster, SSHCluster
from clustrix_prefect.errors import WorkerFailed
from tests.contract.api import eventually
from tests.dispatch.marks import mark, marks
from tests.live.ssh_host import SSHHost

pytestmark = pytest.mark.usefixtures("quick_prefect")


@task
def die_the_second_time(directory: str) -> int:
    began = mark(directory, "body")
    if began > 1:
        os._exit(5)
    return began


@task
def take_longer_the_second_time(directory: str) -> int:
    began = mark(directory, "body")
    time.sleep(3 if began > 1 else 0)
    return began


@task(retries=1)
def fail_each_time(directory: str) -> None:
    raise ValueError(f"attempt {mark(directory, 'failing')}")


@pytest.mark.parametrize(
    "where", ["local", pytest.param("over_ssh", marks=pytest.mark.every), "on_slurm"]
)
def test_a_flow_retry_gets_no_result_of_an_earlier_attempt(
    where: str, request: pytest.FixtureRequest, far_dir: Path
) -> None:
    """The files of the first attempt are kept, since a call of it failed."""
    cluster: LocalCluster | SSHCluster | SlurmCluster = request.getfixturevalue(where)
    found: list[Any] = []

    @flow(task_runner=ClusterTaskRunner(cluster), retries=1)
    def twice() -> None:
        future = die_the_second_time.submit(str(far_dir))
        future.wait()
        found.append(future.state.result(raise_on_failure=False))
        failing = fail_each_time.submit(str(far_dir))
        failing.wait()
        found.append(str(failing.state.result(raise_on_failure=False)))
        failing.result()

    twice(return_state=True)
    assert found[0] == 1
    assert isinstance(found[2], WorkerFailed), repr(found[2])
    # The task's own retries came in between, each a call of its own.
    assert (found[1], found[3]) == ("attempt 2", "attempt 4")
    assert marks(far_dir) == {"body": 2, "failing": 4}


def test_a_call_of_a_flow_retry_is_taken_up_again(
    over_ssh: SSHCluster, ssh_host: SSHHost, far_dir: Path
) -> None:
    values: list[int] = []

    @flow(task_runner=ClusterTaskRunner(over_ssh), retries=1)
    def twice() -> None:
        future = take_longer_the_second_time.submit(str(far_dir))
        if values:
            eventually(lambda _: marks(far_dir)["body"], lambda begun: begun == 2)
            assert ssh_host.drop_connections()
        values.append(future.result())
        fail_each_time.submit(str(far_dir)).result()

    twice(return_state=True)
    assert values == [1, 2]
    assert marks(far_dir)["body"] == 2
