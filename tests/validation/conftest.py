"""Clusters that are saved as blocks, and what the Prefect server shows of a validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from prefect.blocks.core import Block
from prefect.settings import (
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_TO_API_BATCH_INTERVAL,
    temporary_settings,
)

from tests.live.clusters import local_cluster, slurm_cluster, ssh_cluster
from tests.live.prefect_server import PrefectServer
from tests.live.pythons import FarPythons
from tests.live.slurm import Slurm
from tests.live.ssh_host import SSHHost

Save = Callable[[Block, str], str]


@pytest.fixture(autouse=True)
def quick_prefect(prefect_server: PrefectServer) -> Iterator[None]:
    """Prefect without its waits."""
    changes = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_TO_API_BATCH_INTERVAL: 0.1}
    with temporary_settings(changes):
        yield


@pytest.fixture
def saved(prefect_server: PrefectServer) -> Iterator[Save]:
    """Saves a block for one test; its type and name."""
    made: list[tuple[type[Block], str]] = []

    def save(block: Block, name: str) -> str:
        block.save(name, overwrite=True, _sync=True)  # type: ignore[call-arg]
        made.append((type(block), name))
        return f"{block.get_block_type_slug()}/{name}"

    yield save
    for kind, name in made:
        kind.delete(name, _sync=True)  # type: ignore[call-arg]


@pytest.fixture
def here(saved: Save, tmp_path_factory: pytest.TempPathFactory) -> str:
    """This machine."""
    return saved(local_cluster(tmp_path_factory.mktemp("work")), "here")


@pytest.fixture
def bigbox(saved: Save, ssh_host: SSHHost, far_pythons: FarPythons) -> str:
    """A host over SSH."""
    return saved(ssh_cluster(ssh_host, far_pythons, ssh_host.home / "validation"), "bigbox")


@pytest.fixture
def ndoli(saved: Save, slurm: Slurm, ssh_host: SSHHost, far_pythons: FarPythons) -> str:
    """A SLURM cluster over SSH."""
    return saved(slurm_cluster(ssh_host, far_pythons, ssh_host.home / "validation"), "ndoli")
