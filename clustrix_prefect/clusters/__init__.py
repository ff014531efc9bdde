"""Cluster blocks: which clusters there are, how they are reached and what they run."""

from clustrix_prefect.clusters.environment import ManagedEnvironment
from clustrix_prefect.clusters.gridengine import SGECluster
from clustrix_prefect.clusters.kubernetes import KubernetesCluster
from clustrix_prefect.clusters.loading import load_cluster
from clustrix_prefect.clusters.local import LocalCluster
from clustrix_prefect.clusters.pbs import PBSCluster
from clustrix_prefect.clusters.slurm import SlurmCluster
from clustrix_prefect.clusters.ssh import SSHCluster
from clustrix_prefect.clusters.ssh_credentials import SSHCredentials

__all__ = [
    "KubernetesCluster",
    "LocalCluster",
    "ManagedEnvironment",
    "PBSCluster",
    "SGECluster",
    "SSHCluster",
    "SSHCredentials",
    "SlurmCluster",
    "load_cluster",
]
