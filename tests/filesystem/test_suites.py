"""fsspec's own suites for filesystems, over SSH, with paths that do not exist on this machine."""

from __future__ import annotations

import pytest
from fsspec.tests import abstract

from clustrix_prefect import ClusterFileSystem, SSHCluster


class _ClusterFixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, rooted: SSHCluster) -> ClusterFileSystem:
        return ClusterFileSystem(rooted)

    @pytest.fixture
    def fs_path(self, far_directory: str) -> str:
        return far_directory

    @pytest.fixture
    def fs_target(self, fs_path: str) -> str:
        return f"{fs_path}/target"


class TestCopy(abstract.AbstractCopyTests, _ClusterFixtures):
    pass


class TestGet(abstract.AbstractGetTests, _ClusterFixtures):
    pass


class TestPut(abstract.AbstractPutTests, _ClusterFixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, _ClusterFixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, _ClusterFixtures):
    pass
