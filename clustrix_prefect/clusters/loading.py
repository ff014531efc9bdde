"""Clusters by name: "slurm-cluster/ndoli"."""

from __future__ import annotations

from typing import cast

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.clusters.gridengine import SGECluster
from clustrix_prefect.clusters.kubernetes import KubernetesCluster
from clustrix_prefect.clusters.local import LocalCluster
from clustrix_prefect.clusters.pbs import PBSCluster
from clustrix_prefect.clusters.slurm import SlurmCluster
from clustrix_prefect.clusters.ssh import SSHCluster
from clustrix_prefect.display.api_server import cannot_be_asked, refuse_unnamed
from clustrix_prefect.errors import ConfigurationError

# Looked for in this order where it is asked which scheduler there is: where SLURM is, there may
# be commands of the others, too.
CLUSTER_TYPES: tuple[type[ClusterBlock], ...] = (
    LocalCluster,
    SSHCluster,
    SlurmCluster,
    SGECluster,
    PBSCluster,
    KubernetesCluster,
)
_KINDS = {kind.get_block_type_slug(): kind for kind in CLUSTER_TYPES}


def load_cluster(name: str) -> ClusterBlock:
    """Load a cluster block, also where an event loop is running.

    Args:
        name: The block's type and name: "slurm-cluster/ndoli".

    Raises:
        ConfigurationError: There is no such block; the message lists those that there are. Or
            the Prefect API cannot be asked.
    """
    refuse_unnamed()
    try:
        return _load(name)
    except httpx.HTTPError as error:
        raise cannot_be_asked(repr(name), error) from error


def saved_clusters() -> list[str]:
    """Return the names of all cluster blocks that are saved, as `load_cluster` takes them.

    Raises:
        ConfigurationError: The Prefect API cannot be asked.
    """
    refuse_unnamed()
    try:
        with get_client(sync_client=True) as client:
            return [f"{slug}/{name}" for slug in _KINDS for name in _documents(client, slug)]
    except httpx.HTTPError as error:
        raise cannot_be_asked("clusters", error) from error


def _load(name: str) -> ClusterBlock:
    slug, _, document = name.partition("/")
    kind = _KINDS.get(slug)
    if kind is None or not document:
        raise ConfigurationError(
            f"{name!r} does not name a cluster.",
            f"Write the block's type and name, such as 'slurm-cluster/ndoli'; "
            f"the types are {', '.join(_KINDS)}. {_existing()}",
        )
    try:
        # _sync: without it, a coroutine comes back wherever a loop is running.
        return cast("ClusterBlock", kind.load(document, _sync=True))  # type: ignore[call-arg]
    except ValueError as error:
        if not isinstance(error.__cause__, ObjectNotFound):
            raise
        raise ConfigurationError(f"There is no cluster block {name!r}.", _existing()) from None


def _existing() -> str:
    names = saved_clusters()
    if not names:
        return 'No cluster block is saved yet; save one with SlurmCluster(...).save("name").'
    return f"There are: {', '.join(names)}."


def _documents(client: SyncPrefectClient, slug: str) -> list[str]:
    try:
        documents = client.read_block_documents_by_type(slug, include_secrets=False)
    except ObjectNotFound:  # no block of this type was ever saved
        return []
    except PrefectHTTPStatusError as error:
        if error.response.status_code != 404:
            raise
        return []
    return [document.name for document in documents if document.name and not document.is_anonymous]
