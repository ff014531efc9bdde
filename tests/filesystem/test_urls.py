"""URLs of files on clusters, and how clusters are found by them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from clustrix_prefect import ClusterFileSystem, LocalCluster, SSHCluster, cluster_ls
from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.filesystem import urls
from clustrix_prefect.filesystem.naming import forget_clusters
from tests.live.prefect_server import PrefectServer


@pytest.mark.parametrize(
    ("url", "cluster", "path"),
    [
        ("cluster://slurm-cluster.ndoli/scratch/x.csv", "slurm-cluster/ndoli", "/scratch/x.csv"),
        ("cluster://ndoli/scratch/x.csv", "ndoli", "/scratch/x.csv"),
        ("cluster://ndoli/~/x.csv", "ndoli", "/~/x.csv"),
        ("cluster://ndoli/~", "ndoli", "/~"),
        ("cluster://ndoli", "ndoli", "/"),
        ("cluster://ndoli/", "ndoli", "/"),
        ("cluster://ndoli/dir/", "ndoli", "/dir"),
        ("cluster://ndoli/a%20b/%25/c%0Ad", "ndoli", "/a b/%/c\nd"),
        ("cluster://ndoli/a%3A%3Ab", "ndoli", "/a::b"),
        ("cluster://ndoli/%FF%E9", "ndoli", "/\udcff\udce9"),
        ("cluster://ndoli/what?#[1]*", "ndoli", "/what?#[1]*"),
    ],
)
def test_parsing(url: str, cluster: str, path: str) -> None:
    assert urls.parse(url) == (cluster, path)
    assert ClusterFileSystem._strip_protocol(url) == path
    assert ClusterFileSystem._get_kwargs_from_urls(url) == {"block": cluster}


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/a::b", "/a::b"),
        ("/100%25", "/100%25"),
        ("/a\nb ", "/a\nb "),
        ("/dir///", "/dir"),
        ("/", "/"),
        ("", "/"),
        ("x/y", "/~/x/y"),
        ("./x", "/~/x"),
        (".", "/~"),
        ("~", "/~"),
        ("~/x", "/~/x"),
        ("~x", "/~/~x"),
        ("/\udcff", "/\udcff"),
    ],
)
def test_raw_paths_are_taken_as_they_are(raw: str, path: str) -> None:
    assert ClusterFileSystem._strip_protocol(raw) == path
    assert ClusterFileSystem._strip_protocol(path) == path


def test_any_path_goes_into_a_url_and_comes_out_again() -> None:
    for path in ("/a::b", "/100%", "/n\new", "/\udcff\udc80", "/ü b#?c", "/~/x", "/"):
        url = urls.make("slurm-cluster/ndoli", path)
        assert url.isascii()
        assert "::" not in url
        assert urls.parse(url) == ("slurm-cluster/ndoli", path)


def test_a_url_without_a_cluster_is_of_the_block_that_is_given(tmp_path: Path) -> None:
    url = f"cluster://{tmp_path}/x"
    with fsspec.open(url, "wb", block=LocalCluster()) as file:
        file.write(b"of the block")
    assert (tmp_path / "x").read_bytes() == b"of the block"
    with pytest.raises(ConfigurationError, match=r"cluster://slurm-cluster\.ndoli"):
        fsspec.open(url)


@pytest.mark.parametrize("url", ["cluster://", "cluster://~/x", "cluster://../x"])
def test_a_url_without_a_cluster(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"cluster://slurm-cluster\.ndoli"):
        urls.parse(url)


def test_a_bare_double_colon_is_refused() -> None:
    for url in ("cluster://ndoli/a::b", "cluster://ndoli/a::file"):
        with pytest.raises(ConfigurationError, match="%3A%3A"):
            ClusterFileSystem._strip_protocol(url)
        # What fsspec makes of it: a cluster in which `b`, or a local file, is to be looked for.
        with pytest.raises(ConfigurationError, match="%3A%3A"):
            fsspec.open(url).open()


@pytest.fixture
def saved(prefect_server: PrefectServer) -> Iterator[str]:
    """The name of a local cluster that no other block has."""
    name = f"files-{os.urandom(3).hex()}"
    LocalCluster(max_parallel_calls=1).save(name, _sync=True)  # type: ignore[call-arg]
    SSHCluster(host="nowhere.invalid").save(f"{name}-ssh", _sync=True)  # type: ignore[call-arg]
    forget_clusters()
    yield name
    LocalCluster.delete(name, _sync=True)  # type: ignore[call-arg]
    SSHCluster.delete(f"{name}-ssh", _sync=True)  # type: ignore[call-arg]


def test_files_by_url(saved: str, tmp_path) -> None:
    for cluster in (f"local-cluster.{saved}", saved):
        url = f"cluster://{cluster}{tmp_path}/a%3A%3Ab%0A.txt"
        with fsspec.open(url, "wb") as file:
            file.write(b"by url")
        assert (tmp_path / "a::b\n.txt").read_bytes() == b"by url"
        with fsspec.open(url, "rb") as file:
            assert file.read() == b"by url"
    fs, path = fsspec.url_to_fs(url)
    assert isinstance(fs, ClusterFileSystem)
    assert path == f"{tmp_path}/a::b\n.txt"
    assert fs.cat(path) == b"by url"
    assert fs.unstrip_protocol(path) == f"cluster://local-cluster.{saved}{tmp_path}/a%3A%3Ab%0A.txt"
    assert fs.cat(url) == b"by url"
    chained = f"simplecache::{url}"
    with fsspec.open(chained, "rb", simplecache={"cache_storage": str(tmp_path / "c")}) as file:
        assert file.read() == b"by url"


def test_pandas(saved: str, tmp_path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    url = f"cluster://{saved}{tmp_path}/x.csv"
    frame.to_csv(url, index=False)
    assert (tmp_path / "x.csv").read_text() == "a,b\n1,x\n2,y\n"
    assert pandas.read_csv(url).equals(frame)


def test_the_home_directory(saved: str) -> None:
    fs, path = fsspec.url_to_fs(f"cluster://{saved}/~")
    home = os.path.expanduser("~")
    assert sorted(fs.ls(path, detail=False)) == sorted(f"/~/{name}" for name in os.listdir(home))
    assert fs.info("/~")["ino"] == os.stat(home).st_ino
    assert fs.isdir("~")


def test_names_that_are_not_unique_or_not_there(saved: str) -> None:
    SSHCluster(host="nowhere.invalid").save(saved, _sync=True)  # type: ignore[call-arg]
    try:
        with pytest.raises(ConfigurationError) as refused:
            ClusterFileSystem(saved)
        assert f"local-cluster/{saved}, ssh-cluster/{saved}." in str(refused.value)
        assert ClusterFileSystem(f"local-cluster/{saved}").exists("/")
    finally:
        SSHCluster.delete(saved, _sync=True)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError) as refused:
        fsspec.open("cluster://no-such-cluster/x").open()
    assert f"local-cluster/{saved}" in str(refused.value)
    with pytest.raises(ConfigurationError, match="no-such-cluster"):
        cluster_ls("/", "no-such-cluster")


def test_by_name_inside_a_running_event_loop(saved: str, tmp_path) -> None:
    (tmp_path / "x").touch()

    async def look() -> list[str]:
        return cluster_ls(tmp_path, saved)

    assert asyncio.run(look()) == ["x"]
