"""The same functions inside a task: they look at the machine that it runs on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from clustrix_prefect import (
    ClusterTaskRunner,
    DiskUsage,
    FileStat,
    LocalCluster,
    cluster_count_files,
    cluster_du,
    cluster_exists,
    cluster_find,
    cluster_glob,
    cluster_isdir,
    cluster_isfile,
    cluster_ls,
    cluster_stat,
)
from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.filesystem.far_files import far_files
from tests.live import clusters
from tests.live.prefect_server import PrefectServer
from tests.live.pythons import FAR
from tests.live.ssh_host import SSHHost


@pytest.fixture(params=[*FAR, "3.6 over SSH"])
def cluster(
    request: pytest.FixtureRequest,
    pythons: dict[str, str],
    prefect_server: PrefectServer,
    tmp_path: Path,
) -> Iterator[ClusterBlock]:
    """A saved cluster whose calls run under each Python."""
    version, _, over_ssh = request.param.partition(" ")
    block: ClusterBlock
    if over_ssh:
        host, far = (request.getfixturevalue(name) for name in ("ssh_host", "far_pythons"))
        block = clusters.ssh_cluster(host, far, host.home / "in-task", python=far[version])
    else:
        block = LocalCluster(
            remote_work_dir=str(tmp_path / "work"), python=pythons[version], max_parallel_calls=1
        )
    name = f"in-task-{os.urandom(3).hex()}"
    block.save(name, _sync=True)  # type: ignore[call-arg]
    yield block
    far_files(block).close()
    type(block).delete(name, _sync=True)  # type: ignore[call-arg]


@pytest.fixture
def planted(tree: Path, ssh_host: SSHHost) -> Path:
    (tree / "sub").mkdir()
    (tree / "a.csv").write_text("12345")
    (tree / "sub/b.csv").write_text("123")
    (tree / ".dot").touch()
    (tree / os.fsdecode(b"\xe9")).touch()
    os.utime(tree / "a.csv", (1_600_000_000.5, 1_600_000_000.5))
    os.chown(tree / "a.csv", ssh_host.uid, -1)
    (tree / "a.csv").chmod(0o600)
    return tree


@task(cache_policy=NO_CACHE)
def look(top: str) -> tuple:
    import sys

    from clustrix_prefect import cluster_ls as ls_from_within

    stat = cluster_stat(top + "/a.csv")
    try:
        stat.size = 0  # type: ignore[misc]
    except AttributeError as error:
        refused = str(error)
    return (
        ls_from_within(top),
        cluster_find("*.csv", top),
        cluster_glob("*/*", top),
        stat,
        (stat.name, stat.size, stat.is_file, refused),
        cluster_du(top),
        cluster_count_files(top),
        (cluster_exists(top), cluster_isdir(top), cluster_isfile(top)),
        # What it is given can be opened.
        [open(top + "/" + name).close() for name in ls_from_within(top) if name != "sub"],
        "prefect.client" in sys.modules or "paramiko" in sys.modules,
        ".".join(map(str, sys.version_info[:2])),
    )


def test_in_a_task_on_any_python(cluster: ClusterBlock, planted: Path) -> None:
    @flow(task_runner=ClusterTaskRunner(cluster))
    def looking() -> tuple:
        return look.submit(str(planted)).result()

    seen = looking()
    assert cluster.python is not None
    assert f"python{seen[-1]}" in os.path.realpath(cluster.python)
    assert seen[:-1] == (
        [".dot", "a.csv", "sub", os.fsdecode(b"\xe9")],
        ["a.csv", "sub/b.csv"],
        ["sub/b.csv"],
        FileStat(
            size=5,
            modified=1_600_000_000.5,
            is_dir=False,
            is_file=True,
            permissions="600",
            name="a.csv",
        ),
        ("a.csv", 5, True, "cannot assign to field 'size'"),
        DiskUsage(total_bytes=8, file_count=4),
        4,
        (True, True, False),
        [None, None, None],
        False,
    )
    # They come back as what they are here.
    assert type(seen[3]) is FileStat
    assert seen[5].total_mb == 8 / 2**20
    # The same questions, asked from the flow's side.
    assert seen[:4] == (
        cluster_ls(planted, cluster),
        cluster_find("*.csv", planted, cluster),
        cluster_glob("*/*", planted, cluster),
        cluster_stat(planted / "a.csv", cluster),
    )


@task(cache_policy=NO_CACHE)
def look_for(path: str, top: str) -> tuple:
    import sys

    found = (cluster_ls(top), cluster_find("*", top), cluster_glob("*", top), cluster_stat(path))
    return found, cluster_exists(path), sys.getfilesystemencoding()


def test_in_a_task_without_a_utf8_locale(
    pythons: dict[str, str], prefect_server: PrefectServer, tree: Path, tmp_path: Path
) -> None:
    """Python 3.6 takes every name for ASCII there; the answers are the same."""
    if "3.6" not in pythons:
        pytest.skip("no Python 3.6 on this machine")
    cluster = LocalCluster(
        remote_work_dir=str(tmp_path / "work"),
        python=pythons["3.6"],
        max_parallel_calls=1,
        environment={"LC_ALL": "C"},
    )
    names = ["caf\u00e9", os.fsdecode(b"\xe9")]
    for name in names:
        (tree / name).touch()

    @flow(task_runner=ClusterTaskRunner(cluster))
    def looking() -> None:
        for name in names:
            path = str(tree / name)
            found, exists, encoding = look_for.submit(path, str(tree)).result()
            assert encoding == "ascii"
            assert exists
            assert found == (
                cluster_ls(tree, cluster),
                cluster_find("*", tree, cluster),
                cluster_glob("*", tree, cluster),
                cluster_stat(path, cluster),
            )
            assert sorted(found[0]) == sorted(names)

    looking()
    far_files(cluster).close()


@task(cache_policy=NO_CACHE)
def ask(top: str, cluster: str) -> list:
    return cluster_ls(top, cluster)


@task(cache_policy=NO_CACHE)
def ask_loaded(top: str, kind: str, name: str) -> list:
    import clustrix_prefect

    return cluster_ls(top, getattr(clustrix_prefect, kind).load(name))


@task(cache_policy=NO_CACHE)
def look_at_what_is_missing(top: str) -> list:
    return cluster_ls(top + "/missing")


@task(cache_policy=NO_CACHE)
def pass_on(stat: FileStat) -> tuple:
    return stat, stat.size


def test_naming_its_own_cluster_or_another(cluster: ClusterBlock, planted: Path) -> None:
    own = cluster.saved_as
    assert own is not None
    kind, short = type(cluster).__name__, own.partition("/")[2]

    @flow(task_runner=ClusterTaskRunner(cluster))
    def asking() -> None:
        top = str(planted)
        assert ask.submit(top, own).result() == cluster_ls(planted)
        assert ask.submit(top, short).result() == cluster_ls(planted)
        assert ask_loaded.submit(top, kind, short).result() == cluster_ls(planted)
        for failing in (
            ask.submit(top, "slurm-cluster/other"),
            ask_loaded.submit(top, kind, "other"),
        ):
            with pytest.raises(Exception, match=r"other'.* cannot be reached from inside a task"):
                failing.result()
        with pytest.raises(FileNotFoundError, match="missing"):
            look_at_what_is_missing.submit(top).result()
        # Answers travel as arguments, too.
        stat = cluster_stat(planted / "a.csv")
        assert pass_on.submit(stat).result() == (stat, 5)

    asking()
