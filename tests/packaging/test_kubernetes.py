"""Every acceptance case in pods, on the oldest far Python and on this one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from prefect import flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from clustrix_prefect import ClusterTaskRunner, KubernetesCluster
from clustrix_prefect.errors import NotPortable
from tests.live.prefect_server import PrefectServer
from tests.packaging.cases import CASES
from tests.packaging.test_matrix import expected, is_same

if TYPE_CHECKING:
    from tests.live.kubernetes.cluster import Kubernetes

_OWN = ".".join(map(str, sys.version_info[:2]))


@pytest.mark.parametrize("far", ["3.6", _OWN])
def test_every_case_gives_the_same_value_or_is_refused(
    far: str, pythons: dict[str, str], prefect_server: PrefectServer, kubernetes: Kubernetes
) -> None:
    if far not in pythons:
        pytest.skip(f"no Python {far} on this machine")
    with kubernetes.namespace() as namespace:
        cluster = KubernetesCluster(
            kubeconfig_path=str(kubernetes.kubeconfig),
            namespace=namespace,
            image=kubernetes.python_image(far, pythons[far]),
            image_pull_policy="IfNotPresent",
            calls_per_pod=len(CASES),
            max_pods=4,
        )

        @flow(task_runner=ClusterTaskRunner(cluster))
        def run_all() -> dict[str, Any]:
            futures = {name: tried.submit(*args, **kw) for name, tried, args, kw, _ in CASES}
            return {name: one.result(raise_on_failure=False) for name, one in futures.items()}

        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            outcomes = run_all()
    wrong = {}
    for case in CASES:
        name, *_, refused_on = case
        outcome = outcomes[name]
        if {far, "without numpy"}.intersection(refused_on):
            right = isinstance(outcome, NotPortable)
        else:
            right = not isinstance(outcome, BaseException) and is_same(expected(case), outcome)
        if not right:
            wrong[name] = outcome
    assert wrong == {}
    assert len(outcomes) == len(CASES) > 20
