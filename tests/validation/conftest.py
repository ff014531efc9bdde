"""Clusters that are saved as blocks, and what the Prefect server shows of a validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from prefect.blocks.core import Block

from tests.live.clusters import local_cluster, slurm_cluster, ssh_cluster
from tests.live.prefect_server import PrefectServer
from tests.live.pythons import FarPythons
from tests.live.slurm import Slurm
from tests.live.ssh_host import SSHHost

Save = Callable[[Block, str], str]


@pytest.fixture(scope="session", autouse=True)
def quickly(quick_prefect: None) -> None:
    """Prefect without its waits, in all of these tests."""


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
