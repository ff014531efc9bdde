"""The clusters that a validation looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clustrix_prefect.clusters import LocalCluster, load_cluster
from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.clusters.loading import saved_clusters

THIS_MACHINE = "this machine"


def names_of(clusters: Sequence[str] | None) -> list[str]:
    """Return those that are named, each once; else all that are saved; else this machine.

    Raises:
        ConfigurationError: The Prefect API cannot be asked.
    """
    return list(dict.fromkeys(clusters or saved_clusters() or [THIS_MACHINE]))


def cluster_named(name: str) -> ClusterBlock:
    """Return the cluster of a name that `names_of` gave.

    Raises:
        ConfigurationError: There is no such block.
    """
    return LocalCluster() if name == THIS_MACHINE else load_cluster(name)


def environment_with(cluster: ClusterBlock, variables: Mapping[str, str]) -> ClusterBlock:
    """Return the cluster, setting these variables for its calls where its block does not."""
    return cluster.model_copy(update={"environment": {**variables, **cluster.environment}})
