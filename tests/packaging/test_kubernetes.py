"""Every acceptance case in pods, on the oldest far Python and on this one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.live import clusters
from tests.live.prefect_server import PrefectServer
from tests.live.pythons import FarPythons
from tests.packaging.cases import CASES
from tests.packaging.outcomes import outcomes_on, wrong_ones

if TYPE_CHECKING:
    from tests.live.kubernetes.cluster import Kubernetes

_OWN = ".".join(map(str, sys.version_info[:2]))


@pytest.mark.parametrize("far", [_OWN, pytest.param("3.6", marks=pytest.mark.every)])
def test_every_case_gives_the_same_value_or_is_refused(
    far: str,
    far_pythons: FarPythons,
    pythons: dict[str, str],
    prefect_server: PrefectServer,
    kubernetes: Kubernetes,
) -> None:
    if far not in pythons:
        pytest.skip(f"no Python {far} on this machine")
    with kubernetes.namespace() as namespace:
        cluster = clusters.kubernetes_cluster(
            kubernetes, namespace, far_pythons, minor=far, calls_per_pod=len(CASES)
        )
        outcomes = outcomes_on(cluster)
    assert wrong_ones(outcomes, {far, "without numpy"}) == {}
    assert len(outcomes) == len(CASES) > 20
