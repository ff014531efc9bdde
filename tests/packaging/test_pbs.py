"""Every acceptance case as PBS jobs: on SLURM's PBS commands, and on what stands in for OpenPBS."""

from __future__ import annotations

import sys

import pytest

from tests.live import clusters
from tests.live.openpbs import OpenPBS
from tests.live.prefect_server import PrefectServer
from tests.live.pythons import FarPythons
from tests.live.slurm_pbs import SlurmPBS
from tests.live.ssh_host import SSHHost
from tests.packaging.cases import CASES
from tests.packaging.outcomes import outcomes_on, wrong_ones

_OWN = ".".join(map(str, sys.version_info[:2]))


@pytest.mark.every
@pytest.mark.parametrize(
    ("kind", "far"), [("openpbs", "3.6"), ("openpbs", _OWN), ("slurm_pbs", _OWN)]
)
def test_every_case_gives_the_same_value_or_is_refused(
    kind: str,
    far: str,
    far_pythons: FarPythons,
    pythons: dict[str, str],
    prefect_server: PrefectServer,
    ssh_host: SSHHost,
    request: pytest.FixtureRequest,
) -> None:
    if far not in pythons:
        pytest.skip(f"no Python {far} on this machine")
    if kind == "slurm_pbs":
        request.getfixturevalue("slurm")
    commands: OpenPBS | SlurmPBS = request.getfixturevalue(kind)
    work_dir = ssh_host.home / f"cases-{kind}-{far}"
    cluster = clusters.pbs_cluster(ssh_host, far_pythons, work_dir, python=far_pythons[far])
    has_numpy = ssh_host.run(f"{far_pythons[far]} -c 'import numpy'").returncode == 0
    facts = {far} if has_numpy else {far, "without numpy"}

    with ssh_host.bashrc(commands.login):
        outcomes = outcomes_on(cluster)
    assert wrong_ones(outcomes, facts) == {}
    assert len(outcomes) == len(CASES) > 20
