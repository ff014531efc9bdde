"""Clusters whose files are looked at."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clustrix_prefect import ClusterFileSystem, SSHCluster, SSHCredentials
from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.filesystem.far_files import far_files
from tests.conftest import _running
from tests.filesystem.rooted_host import RootedSSHHost
from tests.live import clusters
from tests.live.pythons import FarPythons
from tests.live.rundir import RunDirectory
from tests.live.ssh_host import SSHHost


@pytest.fixture(scope="session")
def rooted_host(
    run_directory: RunDirectory, pytestconfig: pytest.Config
) -> Iterator[RootedSSHHost]:
    """An SSH server with a root of its own."""
    yield from _running(RootedSSHHost(run_directory), pytestconfig)


@pytest.fixture(scope="session")
def rooted(rooted_host: RootedSSHHost) -> Iterator[SSHCluster]:
    """The cluster there: no path of its home exists on this machine."""
    host = rooted_host
    cluster = SSHCluster(
        host=host.host,
        port=host.port,
        credentials=SSHCredentials(username=host.username, key_file=str(host.key_file)),
        known_hosts=str(host.known_hosts),
    )
    yield cluster
    far_files(cluster).close()


@pytest.fixture
def far_directory(rooted_host: RootedSSHHost, rooted: SSHCluster) -> Iterator[str]:
    """An empty directory there, by its path there."""
    name = os.urandom(4).hex()
    path = f"{rooted_host.far_home}/{name}"
    ClusterFileSystem(rooted).mkdir(path)
    assert not os.path.exists(path)
    yield path
    shutil.rmtree(rooted_host.home / name, ignore_errors=True)


@pytest.fixture(scope="session")
def ssh_under(
    ssh_host: SSHHost, far_pythons: FarPythons, pythons: dict[str, str]
) -> Iterator[Callable[[str], SSHCluster]]:
    """A host that shares this machine's files, its agent under a Python of this version."""
    made: dict[str, SSHCluster] = {}

    def make(version: str) -> SSHCluster:
        if version not in made:
            made[version] = clusters.ssh_cluster(
                ssh_host,
                far_pythons,
                ssh_host.home / f"files-{version}",
                python=far_pythons[version],
            )
        return made[version]

    yield make
    for cluster in made.values():
        far_files(cluster).close()


@pytest.fixture
def ssh(ssh_under: Callable[[str], SSHCluster]) -> SSHCluster:
    """The host, for what does not depend on the version there."""
    return ssh_under("3.11")


@pytest.fixture(params=["here", "3.6", "3.13"])
def where(
    request: pytest.FixtureRequest, ssh_under: Callable[[str], SSHCluster]
) -> ClusterBlock | None:
    """This machine, and a host with the oldest and the newest Python: all answer the same."""
    return None if request.param == "here" else ssh_under(request.param)


@pytest.fixture
def tree(ssh_host: SSHHost) -> Iterator[Path]:
    """A directory of the account, that this machine and the cluster both see."""
    path = ssh_host.home / f"tree-{os.urandom(4).hex()}"
    path.mkdir()
    ssh_host._own(path, 0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def as_account(ssh_host: SSHHost) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Have this process be allowed no more than the account is: root may read everything."""

    @contextlib.contextmanager
    def become() -> Iterator[None]:
        os.seteuid(ssh_host.uid)
        try:
            yield
        finally:
            os.seteuid(0)

    return become
