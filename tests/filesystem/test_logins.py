"""The files behind whatever kind of login a cluster has."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clustrix_prefect import ClusterFileSystem, SSHCluster, cluster_du, cluster_find, cluster_ls
from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.filesystem.far_files import far_files
from tests.live import clusters
from tests.live.pythons import FarPythons
from tests.live.slurm import Slurm
from tests.live.ssh_host import SSHHost

_HOSTILE = "a b'c\"d\n$(e);*::é"


@contextmanager
def asked_anew(cluster: ClusterBlock) -> Iterator[ClusterBlock]:
    """A cluster that nobody has logged in to yet."""
    fresh = cluster.model_copy(update={"remote_work_dir": f"~/fresh-{os.urandom(4).hex()}"})
    try:
        yield fresh
    finally:
        far_files(fresh).close()


def look_around(cluster: ClusterBlock, tree: Path) -> None:
    """Write, read and list names and bytes that a shell or a terminal would change."""
    tree.chmod(0o777)
    fs, content = ClusterFileSystem(cluster), bytes(range(256)) * 5000
    fs.mkdir(f"{tree}/{_HOSTILE}")
    fs.pipe_file(f"{tree}/{_HOSTILE}/{_HOSTILE}", content)
    assert (tree / _HOSTILE / _HOSTILE).read_bytes() == content
    assert fs.cat_file(f"{tree}/{_HOSTILE}/{_HOSTILE}") == content
    assert fs.find(str(tree)) == [f"{tree}/{_HOSTILE}/{_HOSTILE}"]
    assert cluster_ls(tree, cluster) == [_HOSTILE]
    assert cluster_find("*", tree, cluster) == [f"{_HOSTILE}/{_HOSTILE}"]
    assert dataclasses.astuple(cluster_du(tree, cluster)) == (len(content), 1)
    with pytest.raises(FileNotFoundError, match="missing"):
        fs.info(f"{tree}/missing")
    fs.rm(f"{tree}/{_HOSTILE}", recursive=True)
    assert os.listdir(tree) == []


@pytest.mark.parametrize("shell", ["tcsh", "dash", "fish"])
def test_another_login_shell(shell: str, ssh: SSHCluster, ssh_host: SSHHost, tree: Path) -> None:
    with ssh_host.login_shell(shell), asked_anew(ssh) as cluster:
        look_around(cluster, tree)


def test_a_noisy_login(ssh: SSHCluster, ssh_host: SSHHost, tree: Path) -> None:
    noise = "echo Welcome; printf 'no newline'; echo beware >&2; head -c 70000 /dev/urandom\n"
    with ssh_host.bashrc(noise), asked_anew(ssh) as cluster:
        look_around(cluster, tree)


def test_a_noisy_tcsh(ssh: SSHCluster, ssh_host: SSHHost, tree: Path) -> None:
    cshrc = ssh_host.home / ".cshrc"
    cshrc.write_text("echo Welcome\nalias ls 'ls -lF --color=always'\nset noclobber\n")
    try:
        with ssh_host.login_shell("tcsh"), asked_anew(ssh) as cluster:
            look_around(cluster, tree)
    finally:
        cshrc.unlink()


def test_the_login_node_of_a_slurm_cluster(
    ssh_host: SSHHost, slurm: Slurm, far_pythons: FarPythons, tree: Path
) -> None:
    block = clusters.slurm_cluster(ssh_host, far_pythons, ssh_host.home / "files-of-slurm")
    with asked_anew(block) as cluster:
        look_around(cluster, tree)
        assert far_files(cluster).connections == 1
