"""Clusters in trouble, and what is to be seen of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clustrix_prefect import (
    KubernetesCluster,
    LocalCluster,
    PBSCluster,
    SGECluster,
    SlurmCluster,
    SSHCluster,
)
from tests.live import clusters
from tests.live.gridengine import GridEngine
from tests.live.openpbs import OpenPBS
from tests.live.pythons import FarPythons
from tests.live.rundir import RunDirectory
from tests.live.slurm import Slurm
from tests.live.slurm_pbs import SlurmPBS
from tests.live.slurm_site import SlurmSite
from tests.live.ssh_host import SSHHost

if TYPE_CHECKING:
    from tests.live.kubernetes.cluster import Kubernetes


@pytest.fixture
def local(quick_prefect: None, tmp_path: Path) -> LocalCluster:
    """This machine."""
    return clusters.local_cluster(tmp_path / "work")


@pytest.fixture
def over_ssh(
    quick_prefect: None, ssh_host: SSHHost, far_pythons: FarPythons, remote_work_dir: Path
) -> SSHCluster:
    """A host without a scheduler."""
    return clusters.ssh_cluster(ssh_host, far_pythons, remote_work_dir)


@pytest.fixture
def on_slurm(
    quick_prefect: None,
    slurm: Slurm,
    ssh_host: SSHHost,
    far_pythons: FarPythons,
    remote_work_dir: Path,
) -> SlurmCluster:
    """A SLURM cluster behind a login node."""
    return clusters.slurm_cluster(ssh_host, far_pythons, remote_work_dir)


@pytest.fixture
def on_slurm_site(
    quick_prefect: None, slurm_site: SlurmSite, request: pytest.FixtureRequest
) -> Iterator[SlurmCluster]:
    """The newer SLURM, through its login node."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)[:60]
    yield clusters.slurm_site_cluster(slurm_site, name)
    for job in {job.partition("_")[0] for job in slurm_site.queue()}:
        slurm_site.run("scancel", job)


@pytest.fixture
def on_gridengine(
    quick_prefect: None,
    gridengine: GridEngine,
    ssh_host: SSHHost,
    far_pythons: FarPythons,
    remote_work_dir: Path,
) -> SGECluster:
    """A Grid Engine behind a login node."""
    return clusters.sge_cluster(ssh_host, far_pythons, remote_work_dir)


@pytest.fixture
def on_openpbs(
    quick_prefect: None,
    openpbs: OpenPBS,
    ssh_host: SSHHost,
    far_pythons: FarPythons,
    remote_work_dir: Path,
) -> Iterator[PBSCluster]:
    """What stands in for OpenPBS, behind a login node that has its commands."""
    with ssh_host.bashrc(openpbs.login):
        yield clusters.pbs_cluster(ssh_host, far_pythons, remote_work_dir)


@pytest.fixture
def on_slurm_pbs(
    quick_prefect: None,
    slurm: Slurm,
    slurm_pbs: SlurmPBS,
    ssh_host: SSHHost,
    far_pythons: FarPythons,
    remote_work_dir: Path,
) -> Iterator[PBSCluster]:
    """SLURM behind a login node that has its PBS commands."""
    with ssh_host.bashrc(slurm_pbs.login):
        yield clusters.pbs_cluster(ssh_host, far_pythons, remote_work_dir)


@pytest.fixture
def namespace(kubernetes: Kubernetes) -> Iterator[str]:
    """A namespace of Kubernetes for one test."""
    with kubernetes.namespace() as name:
        yield name


@pytest.fixture
def on_kubernetes(
    quick_prefect: None,
    kubernetes: Kubernetes,
    namespace: str,
    far_pythons: FarPythons,
    far_dir: Path,
) -> KubernetesCluster:
    """Kubernetes, whose pods see `far_dir`."""
    shared = clusters.shared_with_pods(kubernetes, far_dir)
    return clusters.kubernetes_cluster(kubernetes, namespace, far_pythons, **shared)


@pytest.fixture
def far_dir(run_directory: RunDirectory) -> Path:
    """A directory in which the test and its far calls, of whatever account, can write."""
    path = Path(tempfile.mkdtemp(dir=run_directory.child("dispatch")))
    path.chmod(0o777)
    return path
