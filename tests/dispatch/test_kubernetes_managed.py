"""Flows on a managed cluster: tokens end while they run, and a webhook puts a proxy into pods.

CLUSTRIX_TEST_CALLS=200 and CLUSTRIX_TEST_TOKEN_SECONDS=60 make them last some minutes;
CLUSTRIX_TEST_KILLS=20 kills so often.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, KubernetesCluster
from tests.dispatch import counting_flow
from tests.dispatch.flow_process import FlowProcess
from tests.dispatch.marks import marks
from tests.dispatch.test_kubernetes import wait_until_empty
from tests.dispatch.test_kubernetes_sidecars import sidecar
from tests.live.daemon import wait_until
from tests.live.kubernetes.managed import ManagedApiServer, managed

if TYPE_CHECKING:
    from tests.live.kubernetes.cluster import OwnKubernetes

pytestmark = pytest.mark.usefixtures("quick_prefect")

_CALLS = int(os.environ.get("CLUSTRIX_TEST_CALLS", "12"))
_TOKEN_SECONDS = float(os.environ.get("CLUSTRIX_TEST_TOKEN_SECONDS", "2"))
_KILLS = int(os.environ.get("CLUSTRIX_TEST_KILLS", "1"))


@task
def slowly(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number * 2


@pytest.fixture
def api_server(
    own_kubernetes: OwnKubernetes, on_kubernetes: KubernetesCluster
) -> Iterator[ManagedApiServer]:
    """One whose tokens live shortly, and that puts a container before ours."""

    def inject(job: dict[str, Any]) -> None:
        job["spec"]["template"]["spec"]["containers"].insert(0, sidecar(on_kubernetes.image))

    behind = own_kubernetes.api.configuration
    with managed(behind, _TOKEN_SECONDS, inject) as server:
        yield server


@pytest.fixture
def on_managed(
    api_server: ManagedApiServer, on_kubernetes: KubernetesCluster, namespace: str, tmp_path: Path
) -> KubernetesCluster:
    """The cluster as it is seen there."""
    path = api_server.kubeconfig(tmp_path, namespace)
    return on_kubernetes.model_copy(update={"kubeconfig_path": str(path), "namespace": None})


def test_no_call_fails_while_tokens_end(
    on_managed: KubernetesCluster,
    api_server: ManagedApiServer,
    own_kubernetes: OwnKubernetes,
    namespace: str,
) -> None:
    # Each pod is entered with a token that has ended by then.
    cluster = on_managed.model_copy(update={"calls_per_pod": 2})

    @flow(task_runner=ClusterTaskRunner(cluster))
    def doubling() -> list[int]:
        values: list[int] = slowly.map(range(_CALLS), min(_TOKEN_SECONDS / 2, 5.0)).result()
        return values

    assert doubling() == [2 * number for number in range(_CALLS)]
    assert api_server.refused > 1
    assert len(api_server.tokens) > 2
    wait_until_empty(own_kubernetes, namespace)


@pytest.mark.timeout(90 * (_KILLS + 4))
def test_nothing_is_lost_or_runs_twice_where_pods_have_a_proxy(
    on_managed: KubernetesCluster,
    own_kubernetes: OwnKubernetes,
    namespace: str,
    far_dir: Path,
    tmp_path: Path,
) -> None:
    calls = 12
    third = calls // 3
    bodies = calls + third
    for number in range(_KILLS):
        directory = far_dir / f"kill-{number}"
        (gates := directory / "gates").mkdir(parents=True)
        for one in (directory, gates):
            one.chmod(0o777)
        killed_after = random.randint(1, bodies) if _KILLS > 1 else bodies // 2
        first = FlowProcess(
            counting_flow, on_managed, tmp_path / f"first-{number}", directory, calls, ""
        )
        flow_run_id = first.flow_run_id
        try:
            wait_until(lambda: marks(directory).total() >= killed_after, 120)  # noqa: B023
        finally:
            first.process.kill()
            first.process.wait()
        (gates / "end").touch()
        log = tmp_path / f"second-{number}"
        second = FlowProcess(counting_flow, on_managed, log, directory, calls, "", flow_run_id)
        try:
            second.wait_for(counting_flow.SUCCESS, within=180)
            assert second.process.wait(60) == 0
        finally:
            second.process.kill()
            print(f"kill {number}, after {killed_after} bodies", second.output)
        assert marks(directory) == {
            **{f"count-{n}": 1 for n in range(2 * third)},
            **{f"again-{n}": 2 for n in range(calls - 2 * third)},
        }
    wait_until_empty(own_kubernetes, namespace)
