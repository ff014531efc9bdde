"""Every acceptance case as Grid Engine jobs, on the oldest far Python and on this one."""

from __future__ import annotations

import sys

import pytest

from tests.live import clusters
from tests.live.gridengine import GridEngine
from tests.live.prefect_server import PrefectServer
from tests.live.pythons import FarPythons
from tests.live.ssh_host import SSHHost
from tests.packaging.cases import CASES
from tests.packaging.outcomes import outcomes_on, wrong_ones

_OWN = ".".join(map(str, sys.version_info[:2]))


@pytest.mark.every
@pytest.mark.parametrize("far", ["3.6", _OWN])
def test_every_case_gives_the_same_value_or_is_refused(
    far: str,
    far_pythons: FarPythons,
    pythons: dict[str, str],
    prefect_server: PrefectServer,
    gridengine: GridEngine,
    ssh_host: SSHHost,
) -> None:
    if far not in pythons:
        pytest.skip(f"no Python {far} on this machine")
    work_dir = ssh_host.home / f"cases-{far}"
    cluster = clusters.sge_cluster(ssh_host, far_pythons, work_dir, python=far_pythons[far])
    has_numpy = ssh_host.run(f"{far_pythons[far]} -c 'import numpy'").returncode == 0
    facts = {far} if has_numpy else {far, "without numpy"}

    outcomes = outcomes_on(cluster)
    assert wrong_ones(outcomes, facts) == {}
    assert len(outcomes) == len(CASES) > 20
