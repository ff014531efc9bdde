"""What lies in a cluster's work directory, and what of it can go."""

from __future__ import annotations

from contextlib import AbstractContextManager

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.sessions.opened import BriefSession, opened

# Looking at every file of a large store takes its time.
_TIMEOUT = 3600.0


def store_usage(cluster: ClusterBlock) -> protocol.Usage:
    """Return what lies in a cluster's work directory.

    Returns:
        `kinds`: for each kind the `count`, the `size` in bytes, when the `oldest` was used
        last, and how many are `needed` by unfinished runs; `items`: the largest;
        `free_bytes`.

    Raises:
        ConfigurationError: The cluster keeps nothing that one could look at.
        ConnectionFailed: The cluster cannot be reached.
    """
    with _opened(cluster) as there:
        return there.agent.request(protocol.store_usage(), timeout=_TIMEOUT)


def prune_store(cluster: ClusterBlock, seconds: float) -> protocol.Pruned:
    """Remove what was not used for so long, and what no unfinished flow run needs.

    Returns:
        The `count` of what was removed, its `size` in bytes, and the `items`.

    Raises:
        ConfigurationError: The cluster keeps nothing that one could look at.
        ConnectionFailed: The cluster cannot be reached.
    """
    with _opened(cluster) as there:
        return there.agent.request(protocol.store_prune(seconds=seconds), timeout=_TIMEOUT)


def _opened(cluster: ClusterBlock) -> AbstractContextManager[BriefSession]:
    if not cluster.keeps_store:
        raise ConfigurationError(
            f"{cluster.description}: each pod has a store of its own, which goes with it.",
            "Nothing is left to clean up; for a store that stays, set `work_volume_claim`.",
        )
    return opened(cluster)
