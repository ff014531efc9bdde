"""Clusters by their blocks' names, which are looked up once a minute and not for every file."""

from __future__ import annotations

import threading
import time

from prefect.settings import PREFECT_API_URL

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.clusters.loading import load_cluster, saved_clusters
from clustrix_prefect.errors import ConfigurationError

_KEEP_SECONDS = 60.0

_known: dict[tuple[str | None, str], tuple[float, ClusterBlock]] = {}
_lock = threading.Lock()


def find_cluster(cluster: ClusterBlock | str) -> ClusterBlock:
    """Return a cluster block, given itself or its name.

    Args:
        cluster: A block, "slurm-cluster/ndoli", or "ndoli" where that is unique.

    Raises:
        ConfigurationError: There is no such block, or more than one; the message lists them.
    """
    if isinstance(cluster, ClusterBlock):
        return cluster
    key = (PREFECT_API_URL.value(), cluster)
    with _lock:
        looked_up, block = _known.get(key, (0.0, None))
    if block is not None and time.monotonic() - looked_up < _KEEP_SECONDS:
        return block
    block = load_cluster(cluster if "/" in cluster else whole_name(cluster))
    with _lock:
        _known[key] = (time.monotonic(), block)
    return block


def forget_clusters() -> None:
    """Look every name up again."""
    with _lock:
        _known.clear()


def whole_name(name: str) -> str:
    """Return the block type and name of a saved cluster, given them, or its name alone.

    Raises:
        ConfigurationError: There is no such block, or more than one; the message lists them.
    """
    every = saved_clusters()
    found = [whole for whole in every if name in (whole, whole.partition("/")[2])]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigurationError(
            f"There is more than one cluster block {name!r}.",
            f"Write which is meant: {', '.join(found)}.",
        )
    known = f"There are: {', '.join(every)}." if every else "No cluster block is saved yet."
    raise ConfigurationError(f"There is no cluster block {name!r}.", known)
