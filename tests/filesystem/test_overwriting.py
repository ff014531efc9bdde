"""What is written over is there until the whole of the new is, whichever way it is reached."""

from __future__ import annotations

import json
import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from clustrix_prefect import ClusterFileSystem, LocalCluster, SSHCluster
from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.errors import AgentError
from clustrix_prefect.filesystem.far_files import far_files
from clustrix_prefect.filesystem.listings import directories, entries_of, paths
from tests.live.prefect_server import PrefectServer

# More than is read, or sent, at once.
CONTENT = os.urandom(5 * 2**20 + 1)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    cluster = LocalCluster(remote_work_dir=str(tmp_path_factory.mktemp("work")))
    yield cluster
    far_files(cluster).close()


@pytest.fixture(params=["here", "ssh"])
def cluster(request: pytest.FixtureRequest) -> ClusterBlock:
    """Both kinds that share this machine's files: itself, and a host that is reached over SSH."""
    found: ClusterBlock = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def fs(cluster: ClusterBlock) -> ClusterFileSystem:
    return ClusterFileSystem(cluster)


def _same(path: Path) -> Path:
    return path


def _link(path: Path) -> Path:
    link = path.with_name("link")
    link.symlink_to(path.name)
    return link


def _hard_link(path: Path) -> Path:
    link = path.with_name("hard")
    os.link(path, link)
    return link


def _through_a_directory(path: Path) -> Path:
    (path.parent / "way").symlink_to(".")
    return path.parent / "way" / path.name


WAYS: list[Callable[[Path], Path]] = [_same, _link, _hard_link, _through_a_directory]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [len(CONTENT), 100])
@pytest.mark.parametrize("act", ["get", "put", "get_file", "put_file", "get many", "put many"])
def test_a_file_onto_itself_stays_what_it_is(
    fs: ClusterFileSystem, tree: Path, act: str, size: int, way: Callable[[Path], Path]
) -> None:
    path = tree / "x"
    path.write_bytes(CONTENT[:size])
    shutil.chown(path, tree.stat().st_uid)
    other = way(path)
    method, many, _ = act.partition(" ")
    source, target = ([str(path)], [str(other)]) if many else (str(path), str(other))
    with pytest.raises(shutil.SameFileError, match="x"):
        getattr(fs, method)(source, target)
    assert path.read_bytes() == other.read_bytes() == CONTENT[:size]
    assert not [name for name in os.listdir(tree) if name.endswith(".part")]


@pytest.mark.parametrize("size", [len(CONTENT), 10, 0])
def test_replacing_keeps_permissions_and_follows_links(
    fs: ClusterFileSystem, tree: Path, tmp_path: Path, size: int
) -> None:
    owner = tree.stat().st_uid
    (tmp_path / "new").write_bytes(CONTENT[:size])
    for target in (tree / "far", tmp_path / "near"):
        target.write_bytes(b"old")
        target.chmod(0o640)
        target.with_name("link").symlink_to(target.name)
    os.chown(tree / "far", owner, -1)
    fs.put(str(tmp_path / "new"), str(tree / "link"))
    fs.get(str(tree / "far"), str(tmp_path / "link"))
    for target in (tree / "far", tmp_path / "near"):
        assert target.read_bytes() == CONTENT[:size]
        assert stat.S_IMODE(target.stat().st_mode) == 0o640
        assert target.with_name("link").is_symlink()
    assert (tree / "far").stat().st_uid == owner


def test_what_breaks_off_leaves_the_old_file(
    fs: ClusterFileSystem, tree: Path, tmp_path: Path
) -> None:
    for path in (tree / "far", tmp_path / "near"):
        path.write_bytes(CONTENT)
    os.chown(tree / "far", tree.stat().st_uid, -1)
    (tmp_path / "other").write_bytes(CONTENT[::-1])

    class Broken(fsspec.Callback):
        def relative_update(self, inc: int = 1) -> None:
            super().relative_update(inc)
            if self.value > 2**20:
                raise KeyboardInterrupt

    for act, source, target in (
        (fs.put_file, tmp_path / "other", tree / "far"),
        (fs.get_file, tree / "far", tmp_path / "near"),
    ):
        with pytest.raises(KeyboardInterrupt):
            act(str(source), str(target), callback=Broken())
        assert target.read_bytes() == CONTENT
    assert os.listdir(tree) == ["far"]
    assert sorted(os.listdir(tmp_path)) == ["near", "other"]


def test_a_device_is_written_into(fs: ClusterFileSystem, tree: Path, tmp_path: Path) -> None:
    (tree / "x").write_bytes(b"abc")
    (tree / "x").chmod(0o644)
    fs.get(str(tree / "x"), "/dev/null")
    fs.put(str(tree / "x"), "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_pipe_is_refused_in_words(fs: ClusterFileSystem, tree: Path, tmp_path: Path) -> None:
    os.mkfifo(tree / "pipe")
    (tree / "pipe").chmod(0o644)
    for act in (fs.cat_file, lambda path: fs.get(path, str(tmp_path / "x"))):
        with pytest.raises(OSError, match=r"a pipe, a socket or a device.*pipe"):
            act(str(tree / "pipe"))
    assert not (tmp_path / "x").exists()


# --- files that say less than they hold -----------------------------------------------------


@pytest.mark.parametrize("name", ["cpuinfo", "self/status", "kallsyms", "sys/kernel/ostype"])
def test_files_of_proc_are_read(fs: ClusterFileSystem, name: str, tmp_path: Path) -> None:
    path = f"/proc/{name}"
    lines = Path(path).read_bytes().count(b"\n")
    with fs.open(path) as file:
        found = file.read()
    assert found
    if "self" not in name and "cpu" not in name:
        assert found.count(b"\n") == lines
        assert fs.cat_file(path) == found
        fs.get(path, str(tmp_path / "copy"))
        assert (tmp_path / "copy").read_bytes() == found
    with fs.open(path) as file:
        assert file.readline() == found.partition(b"\n")[0] + b"\n"
        file.seek(2)
        assert file.read(3) == found[2:5]
    with fs.open(path, "r") as text:
        assert text.read(5) == found[:5].decode()


# --- by URL -----------------------------------------------------------------------------------


@pytest.fixture
def saved(here: LocalCluster, prefect_server: PrefectServer) -> Iterator[str]:
    here.model_copy().save("chained", overwrite=True, _sync=True)  # type: ignore[call-arg]
    yield "cluster://local-cluster.chained"
    LocalCluster.delete("chained", _sync=True)  # type: ignore[call-arg]


def test_archives_and_references_on_a_cluster(saved: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inside", "zipped")
    (tmp_path / "x").write_bytes(b"0123456789")
    with fsspec.open(f"zip://inside::{saved}{tmp_path}/a.zip") as file:
        assert file.read() == b"zipped"
    with fsspec.open(f"simplecache::{saved}{tmp_path}/x") as file:
        assert file.read() == b"0123456789"
    references = {"part": [f"{saved}{tmp_path}/x", 2, 3]}
    (tmp_path / "refs.json").write_text(json.dumps({"version": 1, "refs": references}))
    chained = fsspec.filesystem(
        "reference",
        fo=f"{saved}{tmp_path}/refs.json",
        remote_protocol="cluster",
        remote_options={"block": "local-cluster/chained"},
    )
    assert chained.cat("part") == b"234"


def test_options_by_the_names_that_fsspec_has(saved: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"content")
    options: list[dict[str, Any]] = [
        {"protocol": "cluster", "block": "local-cluster/chained"},
        {"protocol": "cluster", "cluster": {"block": "local-cluster/chained"}},
    ]
    for each in options:
        with fsspec.open(str(tmp_path / "x"), **each) as file:
            assert file.read() == b"content"
    with fsspec.open(f"{saved}{tmp_path}/x", cluster={"auto_mkdir": False}) as file:
        assert file.read() == b"content"


def test_directories_are_made_as_files_are_written(fs: ClusterFileSystem, tree: Path) -> None:
    fs.pipe_file(f"{tree}/a/b/c", b"1")
    with fs.open(f"{tree}/d/e/f", "wb") as file:
        file.write(b"2")
    fs.touch(f"{tree}/g/h")
    fs.cp_file(f"{tree}/a/b/c", f"{tree}/i/j")
    assert {path.name for path in tree.rglob("*") if path.is_file()} == {"c", "f", "h", "j"}
    strict = ClusterFileSystem(fs.cluster, auto_mkdir=False)
    with pytest.raises(FileNotFoundError):
        strict.pipe_file(f"{tree}/none/x", b"")


# --- links and names --------------------------------------------------------------------------


def test_links_to_directories_are_refused_and_not_emptied(
    fs: ClusterFileSystem, tree: Path, tmp_path: Path
) -> None:
    for top in (tree, tmp_path / "near"):
        (top / "real").mkdir(parents=True)
        (top / "real" / "x").write_bytes(b"x")
        (top / "link").symlink_to("real")
        (top / "self").symlink_to(".")
    shutil.chown(tree, tree.stat().st_uid)
    far, near = str(tree), str(tmp_path / "near")
    with pytest.raises(IsADirectoryError, match="link to a directory"):
        fs.get(f"{far}/", str(tmp_path / "got"), recursive=True)
    with pytest.raises(IsADirectoryError, match="link to a directory"):
        fs.put(f"{near}/", f"{far}/put", recursive=True)
    with pytest.raises(IsADirectoryError, match="link to a directory"):
        fs.cp(f"{far}/", f"{far}-copy", recursive=True)
    # One that somebody names is meant.
    fs.get(f"{far}/link", str(tmp_path / "named"), recursive=True)
    fs.put(f"{near}/link", f"{far}/named", recursive=True)
    fs.cp(f"{far}/link", f"{far}/copied", recursive=True)
    for copy in (tmp_path / "named", tree / "named", tree / "copied"):
        assert (copy / "x").read_bytes() == b"x"
    shutil.rmtree(f"{far}-copy", ignore_errors=True)


@pytest.mark.parametrize("name", ["x" * 255, "长" * 85, "é" * 120])
def test_long_names_travel(fs: ClusterFileSystem, tree: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(CONTENT)
    fs.put(str(tmp_path / name), f"{tree}/{name}")
    (tmp_path / "back").mkdir()
    fs.get(f"{tree}/{name}", str(tmp_path / "back" / name))
    assert (tmp_path / "back" / name).read_bytes() == CONTENT
    with fs.transaction, fs.open(f"{tree}/{name}", "wb") as file:
        file.write(b"anew")
    assert (tree / name).read_bytes() == b"anew"


@pytest.mark.parametrize("name", ["../x", "..", ".", "", "/etc/x", "a/b", "a/../../b"])
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    for read in (
        lambda: entries_of("/top", [f"f/{name}"]),
        lambda: list(paths("/top", [f"f/{name}"], directories_too=True)),
        lambda: list(directories("/top", ["/", f"d/{name}"])),
    ):
        with pytest.raises(AgentError, match="no name of a file"):
            read()


@pytest.mark.parametrize("inside", ["..", "a/../..", "/etc", "a//b", "./a"])
def test_directories_that_lie_elsewhere_are_refused(inside: str) -> None:
    for read in (
        lambda: list(directories("/top", [f"/{inside}", "f/x"])),
        lambda: list(paths("/top", [f"/{inside}", "f/x"], directories_too=True)),
    ):
        with pytest.raises(AgentError, match="no name of a file"):
            read()


def test_what_names_a_filesystem_holds_no_secret(ssh: SSHCluster) -> None:
    from clustrix_prefect import SSHCredentials

    def named(password: str, variable: str) -> ClusterFileSystem:
        credentials = SSHCredentials(username="ana", password=password)
        return ClusterFileSystem(
            SSHCluster(host="h", credentials=credentials, environment={"TOKEN": variable})
        )

    one, other = named("one", "1"), named("two", "2")
    assert one != other
    assert one.fsid == other.fsid
    assert one._fs_token == other._fs_token
    elsewhere = ClusterFileSystem(SSHCluster(host="elsewhere"))
    assert elsewhere.fsid != one.fsid
