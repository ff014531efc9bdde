"""The runner as an object: equality, copies, and what it refuses."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any

import cloudpickle
import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.task_runners import TaskRunner

from clustrix_prefect import ClusterTaskRunner, LocalCluster, SSHCluster
from clustrix_prefect.errors import ConfigurationError, TaskNotSupported

from .conftest import Cluster

pytestmark = pytest.mark.engine


@task
def square(x: int) -> int:
    return x * x


@task
def count_up(to: int) -> Generator[int, None, None]:
    yield from range(to)


@task
async def count_up_later(to: int) -> AsyncGenerator[int, None]:
    for number in range(to):
        yield number


def test_duplicates_are_equal(cluster: Cluster) -> None:
    runner = cluster.runner()
    assert runner.duplicate() == runner
    assert runner.duplicate() is not runner
    assert cluster.runner() == runner
    assert cluster.elsewhere() != runner
    assert runner != object()
    with runner:
        assert runner.duplicate() == runner


def test_runners_travel_with_their_flow(cluster: Cluster) -> None:
    """Prefect pickles a flow, with its runner, to run it in another process."""
    copy = cloudpickle.loads(cloudpickle.dumps(cluster.runner()))
    assert copy == cluster.runner()
    with copy:
        assert copy.submit(square, {"x": 3}).result() == 9


def test_options_are_part_of_a_runner() -> None:
    block = LocalCluster()
    runner = ClusterTaskRunner(block, requeues=5)
    assert runner.duplicate() == runner
    assert ClusterTaskRunner(block) != runner
    with pytest.raises(ConfigurationError, match="requeues"):
        ClusterTaskRunner(block, requeues=-1)
    with pytest.raises(ConfigurationError, match="int"):
        ClusterTaskRunner(5)  # type: ignore[arg-type]


@pytest.mark.only_on("local")
def test_a_cluster_by_name(cluster: Cluster) -> None:
    LocalCluster(max_parallel_calls=1).save("by-name", overwrite=True)
    runner = ClusterTaskRunner("local-cluster/by-name")
    assert runner.duplicate() == runner

    @flow(task_runner=runner)
    def named() -> list[int]:
        return square.map([1, 2]).result()

    assert named() == [1, 4]


@pytest.mark.only_on("local")
def test_a_name_that_is_not_there(cluster: Cluster) -> None:
    runner = ClusterTaskRunner("local-cluster/not-there")
    with runner, pytest.raises(ConfigurationError, match="local-cluster/not-there"):
        runner.submit(square, {"x": 2})
    with runner, pytest.raises(ConfigurationError, match="local-cluster/not-there"):
        runner.map(square, {"x": [2]})


@pytest.mark.only_on("local")
def test_a_flow_whose_cluster_cannot_be_reached_fails(cluster: Cluster) -> None:
    attempts = []

    @flow(task_runner=ClusterTaskRunner(SSHCluster(host="127.0.0.1", port=1)), retries=1)
    def unreachable() -> int:
        attempts.append(1)
        return square.submit(2).result()

    state = unreachable(return_state=True)
    assert state.is_failed()
    assert "ConnectionFailed" in str(state.message)
    assert len(attempts) == 2
    assert state.state_details.flow_run_id is not None
    with get_client(sync_client=True) as client:
        shown = client.read_flow_run(state.state_details.flow_run_id).state
    assert shown is not None
    assert shown.is_failed()


@pytest.mark.cluster_only("threads collect what a generator yields")
@pytest.mark.parametrize("generator", [count_up, count_up_later], ids=["sync", "async"])
def test_generator_tasks_are_refused_by_name(runner: TaskRunner[Any], generator: Any) -> None:
    with runner:
        with pytest.raises(TaskNotSupported, match=generator.name):
            runner.submit(generator, {"to": 2})
        with pytest.raises(TaskNotSupported, match=generator.name):
            runner.map(generator, {"to": [1, 2]})
        assert runner.submit(square, {"x": 2}).result() == 4
