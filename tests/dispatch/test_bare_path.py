"""Hosts whose plain commands do not find the scheduler's programs: only a login shell does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner
from clustrix_prefect.clusters.batch import BatchCluster
from clustrix_prefect.validation.cluster_check import check_cluster
from tests.live import clusters
from tests.live.pythons import FarPythons
from tests.live.ssh_host import SSHHost

pytestmark = pytest.mark.usefixtures("quick_prefect")

_SLURM = ("sbatch", "squeue", "scontrol", "scancel", "sacct", "sacctmgr", "sinfo")
_PBS = ("qsub", "qstat", "qselect", "qdel", "qmgr", "qconf", "qacct")
_BLOCKS: dict[str, Callable[..., BatchCluster]] = {
    "slurm": clusters.slurm_cluster,
    "gridengine": clusters.sge_cluster,
    "openpbs": clusters.pbs_cluster,
    "slurm_pbs": clusters.pbs_cluster,
}


@task
def double(x: int) -> int:
    return 2 * x


@pytest.mark.parametrize("scheduler", _BLOCKS)
def test_calls_run_and_check_finds_the_scheduler(
    scheduler: str,
    request: pytest.FixtureRequest,
    ssh_host: SSHHost,
    far_pythons: FarPythons,
    remote_work_dir: Path,
) -> None:
    if scheduler == "slurm_pbs":
        request.getfixturevalue("slurm")
    service: Any = request.getfixturevalue(scheduler)
    cluster = _BLOCKS[scheduler](ssh_host, far_pythons, remote_work_dir)

    @flow(task_runner=ClusterTaskRunner(cluster))
    def doubled() -> list[int]:
        return double.map(range(3)).result()

    program = "sbatch" if scheduler == "slurm" else "qsub"
    with ssh_host.bare_path((*_SLURM, *_PBS), getattr(service, "login", "")):
        assert not ssh_host.run(f"command -v {program}").stdout
        assert doubled() == [0, 2, 4]
        found = list(check_cluster(cluster))
    assert [each for each in found if each.problem] == []
