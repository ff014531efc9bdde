"""Prefect flows whose tasks run on the clusters you already have.

`ClusterTaskRunner` goes on a flow, a cluster block says where its tasks run, and
`resources` says what each of them gets.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clustrix_prefect.clusters import (
        KubernetesCluster,
        LocalCluster,
        ManagedEnvironment,
        PBSCluster,
        SGECluster,
        SlurmCluster,
        SSHCluster,
        SSHCredentials,
        load_cluster,
    )
    from clustrix_prefect.credentials import OnePasswordCLI, OnePasswordConnect
    from clustrix_prefect.files import File, Folder
    from clustrix_prefect.filesystem.cluster_filesystem import ClusterFileSystem
    from clustrix_prefect.filesystem.functions import (
        DiskUsage,
        FileStat,
        cluster_count_files,
        cluster_du,
        cluster_exists,
        cluster_find,
        cluster_glob,
        cluster_isdir,
        cluster_isfile,
        cluster_ls,
        cluster_stat,
    )
    from clustrix_prefect.pricing.blocks import PricingBaseline, PricingCredentials
    from clustrix_prefect.runner import ClusterTaskRunner
    from clustrix_prefect.sessions.remote_files import RemoteFile, RemoteFolder
    from clustrix_prefect.task_resources import Resources, resources

__version__ = version("clustrix-prefect")

__all__ = [
    "ClusterFileSystem",
    "ClusterTaskRunner",
    "DiskUsage",
    "File",
    "FileStat",
    "Folder",
    "KubernetesCluster",
    "LocalCluster",
    "ManagedEnvironment",
    "OnePasswordCLI",
    "OnePasswordConnect",
    "PBSCluster",
    "PricingBaseline",
    "PricingCredentials",
    "RemoteFile",
    "RemoteFolder",
    "Resources",
    "SGECluster",
    "SSHCluster",
    "SSHCredentials",
    "SlurmCluster",
    "cluster_count_files",
    "cluster_du",
    "cluster_exists",
    "cluster_find",
    "cluster_glob",
    "cluster_isdir",
    "cluster_isfile",
    "cluster_ls",
    "cluster_stat",
    "load_cluster",
    "resources",
]

# Loaded where first used: the command line and Prefect's own start-up stay quick.
_HOMES = {
    "File": "clustrix_prefect.files",
    "Folder": "clustrix_prefect.files",
    "RemoteFile": "clustrix_prefect.sessions.remote_files",
    "RemoteFolder": "clustrix_prefect.sessions.remote_files",
    "OnePasswordCLI": "clustrix_prefect.credentials.onepassword",
    "OnePasswordConnect": "clustrix_prefect.credentials.onepassword",
    "PricingBaseline": "clustrix_prefect.pricing.blocks",
    "PricingCredentials": "clustrix_prefect.pricing.blocks",
    "ClusterFileSystem": "clustrix_prefect.filesystem.cluster_filesystem",
    "ClusterTaskRunner": "clustrix_prefect.runner",
    "Resources": "clustrix_prefect.task_resources",
    "resources": "clustrix_prefect.task_resources",
    **dict.fromkeys(
        (
            "DiskUsage",
            "FileStat",
            "cluster_count_files",
            "cluster_du",
            "cluster_exists",
            "cluster_find",
            "cluster_glob",
            "cluster_isdir",
            "cluster_isfile",
            "cluster_ls",
            "cluster_stat",
        ),
        "clustrix_prefect.filesystem.functions",
    ),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "clustrix_prefect.clusters")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
