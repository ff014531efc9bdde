"""Cluster blocks for the services that the tests started."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from clustrix_prefect import (
    KubernetesCluster,
    LocalCluster,
    PBSCluster,
    SGECluster,
    SlurmCluster,
    SSHCluster,
    SSHCredentials,
)
from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.far_side.wire.patience import Patience
from tests.live.gridengine import PARALLEL_ENVIRONMENT
from tests.live.pythons import FarPythons
from tests.live.slurm_site import SlurmSite
from tests.live.ssh_host import SSHHost

if TYPE_CHECKING:
    from tests.live.kubernetes.cluster import Kubernetes


def account(host: SSHHost, pythons: FarPythons, work_dir: Path) -> dict[str, Any]:
    """How to reach the account of an SSH server, as a cluster's fields."""
    return {
        "host": host.host,
        "port": host.port,
        "credentials": SSHCredentials(username=host.username, key_file=str(host.key_file)),
        "known_hosts": str(host.known_hosts),
        "remote_work_dir": str(work_dir),
        "python": pythons[".".join(map(str, sys.version_info[:2]))],
    }


# The services of the tests share this machine's file system, and have few users to answer.
QUICK = Patience(
    explained=0.5,
    unexplained=3.0,
    job_grace=Patience().job_grace,
    worker_grace=2.0,
    poll_min=0.3,
    poll_max=2.0,
)

C = TypeVar("C", bound=ClusterBlock)


def impatient(cluster: C) -> C:
    """Make a cluster wait no longer than the tests' services need; returns it."""
    cluster._patience = QUICK
    return cluster


def local_cluster(work_dir: Path, **fields: Any) -> LocalCluster:
    """This machine."""
    given = {"remote_work_dir": str(work_dir), "max_parallel_calls": 4, **fields}
    return impatient(LocalCluster(**given))


def ssh_cluster(host: SSHHost, pythons: FarPythons, work_dir: Path, **fields: Any) -> SSHCluster:
    """The SSH server's host."""
    given = {**account(host, pythons, work_dir), "max_parallel_calls": 4, **fields}
    return impatient(SSHCluster(**given))


def slurm_cluster(
    host: SSHHost, pythons: FarPythons, work_dir: Path, **fields: Any
) -> SlurmCluster:
    """The SLURM cluster, through the SSH server as its login node."""
    small = {"cores": 1, "memory": "256MB", "time": "00:05:00"}
    given = {**account(host, pythons, work_dir), "default_resources": small, **fields}
    return impatient(SlurmCluster(**given))


def slurm_site_cluster(site: SlurmSite, work_dir: str, **fields: Any) -> SlurmCluster:
    """The second SLURM, with the Python that its nodes have."""
    given = {
        "host": site.host,
        "port": site.port,
        "credentials": SSHCredentials(username=site.username, key_file=str(site.key_file)),
        "known_hosts": str(site.known_hosts),
        "remote_work_dir": f"{site.home}/{work_dir}",
        "default_resources": {"cores": 1, "memory": "100MB", "time": "00:05:00"},
        **fields,
    }
    return impatient(SlurmCluster(**given))


def sge_cluster(host: SSHHost, pythons: FarPythons, work_dir: Path, **fields: Any) -> SGECluster:
    """The Grid Engine, through the SSH server as its login node."""
    small = {"cores": 1, "time": "00:05:00"}
    given = {
        **account(host, pythons, work_dir),
        "parallel_environment": PARALLEL_ENVIRONMENT,
        "default_resources": small,
        **fields,
    }
    return impatient(SGECluster(**given))


def pbs_cluster(host: SSHHost, pythons: FarPythons, work_dir: Path, **fields: Any) -> PBSCluster:
    """Whatever PBS the logins of the SSH server find."""
    small = {"cores": 1, "memory": "256MB", "time": "00:05:00"}
    given = {**account(host, pythons, work_dir), "default_resources": small, **fields}
    return impatient(PBSCluster(**given))


def kubernetes_cluster(
    kubernetes: Kubernetes,
    namespace: str,
    pythons: FarPythons,
    minor: str | None = None,
    **fields: Any,
) -> KubernetesCluster:
    """A namespace of the Kubernetes cluster; its image has the tests' Python, if not another."""
    minor = minor or ".".join(map(str, sys.version_info[:2]))
    given = {
        "kubeconfig_path": str(kubernetes.kubeconfig),
        "namespace": namespace,
        "image": kubernetes.python_image(minor, pythons[minor]),
        "image_pull_policy": "IfNotPresent",
        "max_pods": 4,
        "default_resources": {"memory": "128MB"},
        **fields,
    }
    return impatient(KubernetesCluster(**given))


def shared_with_pods(kubernetes: Kubernetes, path: Path) -> dict[str, Any]:
    """A directory of this machine for the pods, as fields of their cluster.

    The test is skipped where pods run on other machines, or in virtual ones.
    """
    if not kubernetes.sees_this_machine:
        pytest.skip("the nodes of CLUSTRIX_TEST_KUBECONFIG do not see this machine's files")
    volume = {"name": "shared", "hostPath": {"path": str(path)}}
    return {
        "volumes": [volume],
        "volume_mounts": [{"name": "shared", "mountPath": str(path)}],
    }
