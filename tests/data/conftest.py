"""Clusters to send data to."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clustrix_prefect import ClusterTaskRunner
from clustrix_prefect.clusters.cluster import ClusterBlock
from tests.far_side.far import Far
from tests.live import clusters
from tests.live.pythons import FAR

CLUSTERS = ("local", "slurm", pytest.param("ssh", marks=pytest.mark.every))


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls on this machine run in the flow's directory, and leave files there."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=FAR)
def far(request: pytest.FixtureRequest, pythons: dict[str, str], tmp_path: Path) -> Iterator[Far]:
    """A far side under each interpreter."""
    if request.param not in pythons:
        pytest.skip(f"no Python {request.param} on this machine")
    side = Far(pythons[request.param], tmp_path / "work")
    yield side
    side.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Far]:
    """A far side under this interpreter, for what does not depend on the version."""
    side = Far(sys.executable, tmp_path / "work")
    yield side
    side.close()


def _cluster(name: str, request: pytest.FixtureRequest) -> ClusterBlock:
    if name == "local":
        work_dir = request.getfixturevalue("tmp_path_factory").mktemp("work")
        return clusters.local_cluster(work_dir, python=sys.executable)
    host = request.getfixturevalue("ssh_host")
    pythons = request.getfixturevalue("far_pythons")
    make: Callable[..., ClusterBlock] = clusters.ssh_cluster
    if name == "slurm":
        request.getfixturevalue("slurm")
        make = clusters.slurm_cluster
    return make(host, pythons, host.home / f"data-{name}-{os.urandom(4).hex()}")


@pytest.fixture(scope="session", params=CLUSTERS)
def cluster(request: pytest.FixtureRequest, quick_prefect: None) -> Iterator[ClusterBlock]:
    """Each kind of cluster, with its connection held open for all tests."""
    block = _cluster(request.param, request)
    with ClusterTaskRunner(block):
        yield block


@pytest.fixture(scope="session")
def local(request: pytest.FixtureRequest, quick_prefect: None) -> ClusterBlock:
    """This machine, for what does not depend on the cluster."""
    return _cluster("local", request)


@pytest.fixture
def runner(cluster: ClusterBlock) -> ClusterTaskRunner:
    """A new runner, not started."""
    return ClusterTaskRunner(cluster)
