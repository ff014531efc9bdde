"""The `cluster_*` functions: one suite over this machine and over clusters."""

from __future__ import annotations

import dataclasses
import logging
import os
import pickle
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from clustrix_prefect import (
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
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.filesystem.far_files import far_files

Where = ClusterBlock | None

# What a shell, a terminal, JSON or a decoder might trip over.
HOSTILE = [
    " leading and trailing ",
    "$(touch owned)",
    "'; touch owned; '",
    "-rf",
    "a b",
    "back\\slash",
    "cluster::file",
    "new\nline",
    "tab\there",
    "quote\"s'",
    "star*[x]?",
    "~",
    "ünïcödé",
    "日本語",
    "\U0001f600",
    "%20",
    os.fsdecode(b"latin-\xe9"),
    os.fsdecode(b"\xff\xfe\x80"),
]


@pytest.fixture
def csvs(tree: Path) -> Path:
    """The predecessor's own tree: five files, three of them `*.csv`, at two depths."""
    (tree / "subdir").mkdir()
    for name in ("one.csv", "two.csv", "README.md", "notes.txt", "subdir/nested.csv"):
        (tree / name).write_text(f"{name}\n")
    return tree


def test_the_predecessors_assertions(csvs: Path, where: Where) -> None:
    assert cluster_ls(csvs, where) == ["README.md", "notes.txt", "one.csv", "subdir", "two.csv"]
    assert cluster_find("*.csv", csvs, where) == ["one.csv", "subdir/nested.csv", "two.csv"]
    assert cluster_glob("*.csv", csvs, where) == ["one.csv", "two.csv"]
    assert cluster_du(csvs, where).file_count == 5
    assert cluster_count_files(csvs, cluster=where) == 5
    assert cluster_count_files(csvs, "*.csv", where) == 3
    assert cluster_exists(csvs / "README.md", where)
    assert not cluster_exists(csvs / "missing", where)
    assert cluster_isdir(csvs / "subdir", where)
    assert not cluster_isdir(csvs / "README.md", where)
    assert cluster_isfile(csvs / "README.md", where)
    assert not cluster_isfile(csvs / "subdir", where)


def test_stat_is_a_frozen_dataclass(csvs: Path, where: Where) -> None:
    os.utime(csvs / "one.csv", (1_600_000_000, 1_600_000_000.5))
    (csvs / "one.csv").chmod(0o640)
    stat = cluster_stat(csvs / "one.csv", where)
    assert stat == FileStat(
        size=8,
        modified=1_600_000_000.5,
        is_dir=False,
        is_file=True,
        permissions="640",
        name="one.csv",
    )
    assert [field.name for field in dataclasses.fields(stat)] == [
        "size",
        "modified",
        "is_dir",
        "is_file",
        "permissions",
        "name",
    ]
    with pytest.raises(dataclasses.FrozenInstanceError):
        stat.size = 0  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(stat)) == stat
    directory = cluster_stat(f"{csvs}/subdir/", where)
    assert (directory.is_dir, directory.is_file, directory.name) == (True, False, "subdir")


def test_du_counts_the_bytes_of_regular_files_and_follows_no_links(
    tree: Path, where: Where
) -> None:
    (tree / "deep/er").mkdir(parents=True)
    (tree / "deep/er/file").write_bytes(b"x" * 12_345)
    (tree / ".dot").write_bytes(b"y" * 17)
    (tree / "empty").touch()
    (tree / "link").symlink_to("deep/er/file")
    (tree / "up").symlink_to("..")
    (tree / "loop").symlink_to("loop")
    with (tree / "sparse").open("wb") as file:
        file.truncate(3 * 2**30)
    os.mkfifo(tree / "pipe")
    usage = cluster_du(tree, where)
    assert usage == DiskUsage(total_bytes=12_345 + 17 + 3 * 2**30, file_count=4)
    assert usage.total_gb == pytest.approx(3.0, abs=1e-4)
    assert usage.total_mb == pytest.approx(3072.01, abs=0.01)
    assert cluster_du(tree / "deep/er/file", where) == DiskUsage(12_345, 1)


def test_a_huge_file(tree: Path, where: Where) -> None:
    with (tree / "huge").open("wb") as file:
        file.truncate(5 * 10**12)
    assert cluster_stat(tree / "huge", where).size == 5 * 10**12
    assert cluster_du(tree, where).total_bytes == 5 * 10**12


def test_dotfiles_are_files(tree: Path, where: Where) -> None:
    (tree / ".hidden").mkdir()
    for name in (".dot", "plain", ".hidden/.inner", ".hidden/inner"):
        (tree / name).touch()
    assert cluster_ls(tree, where) == [".dot", ".hidden", "plain"]
    found = [".dot", ".hidden/.inner", ".hidden/inner", "plain"]
    assert cluster_find("*", tree, where) == found
    assert cluster_count_files(tree, cluster=where) == 4
    # As in a shell, a star does not stand for the dot at the beginning of a name.
    assert cluster_glob("*", tree, where) == ["plain"]
    assert cluster_glob(".*", tree, where) == [".dot", ".hidden"]
    assert cluster_glob("**", tree, where) == ["plain"]
    assert cluster_glob(".hidden/*", tree, where) == [".hidden/inner"]


def test_links_are_listed_and_led_along_only_when_named(tree: Path, where: Where) -> None:
    (tree / "real").mkdir()
    (tree / "real/file").write_text("12345")
    (tree / "to-dir").symlink_to("real")
    (tree / "to-file").symlink_to("real/file")
    (tree / "broken").symlink_to("nowhere")
    (tree / "loop").symlink_to(".")
    every = ["broken", "loop", "real", "to-dir", "to-file"]
    assert cluster_ls(tree, where) == every
    assert cluster_find("*", tree, where) == ["broken", "loop", "real/file", "to-dir", "to-file"]
    assert cluster_glob("*", tree, where) == every
    assert cluster_glob("*/file", tree, where) == ["real/file", "to-dir/file"]
    assert cluster_glob("**/file", tree, where) == ["real/file"]
    # What a link leads to, if that is what was asked about.
    assert cluster_ls(tree / "to-dir", where) == ["file"]
    assert cluster_find("*", tree / "to-dir", where) == ["file"]
    assert cluster_du(tree / "to-dir", where) == DiskUsage(5, 1)
    assert cluster_stat(tree / "to-file", where).size == 5
    assert cluster_isdir(tree / "to-dir", where)
    assert cluster_isfile(tree / "to-file", where)
    assert not cluster_exists(tree / "broken", where)
    assert not cluster_isfile(tree / "broken", where)
    with pytest.raises(FileNotFoundError):
        cluster_stat(tree / "broken", where)


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name(tree: Path, where: Where, name: str) -> None:
    (tree / name).mkdir()
    (tree / name / name).write_bytes(b"123")
    assert cluster_ls(tree, where) == [name]
    assert cluster_ls(tree / name, where) == [name]
    assert cluster_find("*", tree, where) == [f"{name}/{name}"]
    assert cluster_glob("*/*", tree, where) == [f"{name}/{name}"]
    assert cluster_stat(tree / name / name, where).name == name
    assert cluster_isdir(tree / name, where)
    assert cluster_isfile(tree / name / name, where)
    assert cluster_exists(tree / name / name, where)
    assert cluster_du(tree / name, where) == DiskUsage(3, 1)
    assert cluster_count_files(tree / name, cluster=where) == 1
    assert cluster_ls(tree, where) == [name], "something was made by looking"


def test_a_pattern_goes_to_no_shell(tree: Path, where: Where) -> None:
    (tree / "a").touch()
    for pattern in ("$(touch owned)", "; touch owned", "`touch owned`", "a\ntouch owned"):
        assert cluster_find(pattern, tree, where) == []
        assert cluster_glob(pattern, tree, where) == []
        assert cluster_count_files(tree, pattern, where) == 0
    assert os.listdir(tree) == ["a"]


def test_patterns(tree: Path, where: Where) -> None:
    (tree / "sub/deep").mkdir(parents=True)
    for name in ("a1.txt", "b1.txt", "é1.txt", "A1.TXT", "sub/a1.txt", "sub/deep/a1.txt"):
        (tree / name).touch()
    assert cluster_find("?1.txt", tree, where) == [
        "a1.txt",
        "b1.txt",
        "sub/a1.txt",
        "sub/deep/a1.txt",
        "é1.txt",
    ]
    assert cluster_find("[!a]1.txt", tree, where) == ["b1.txt", "é1.txt"]
    assert cluster_find("sub/*.txt", tree, where) == ["sub/a1.txt", "sub/deep/a1.txt"]
    assert cluster_glob("?1.txt", tree, where) == ["a1.txt", "b1.txt", "é1.txt"]
    assert cluster_glob("sub/*", tree, where) == ["sub/a1.txt", "sub/deep"]
    assert cluster_glob("*/", tree, where) == ["sub"]
    assert cluster_glob("**/*.txt", tree, where) == [
        "a1.txt",
        "b1.txt",
        "sub/a1.txt",
        "sub/deep/a1.txt",
        "é1.txt",
    ]
    assert cluster_glob("a1.txt", tree, where) == ["a1.txt"]
    assert cluster_glob("none.txt", tree, where) == []
    assert cluster_glob(f"{tree}/sub/*.txt", "/", where) == [f"{tree}/sub/a1.txt"]


def test_a_missing_path_is_not_an_empty_one(tree: Path, where: Where) -> None:
    missing = tree / "missing"
    for ask in (
        lambda: cluster_ls(missing, where),
        lambda: cluster_find("*", missing, where),
        lambda: cluster_glob("*", missing, where),
        lambda: cluster_stat(missing, where),
        lambda: cluster_du(missing, where),
        lambda: cluster_count_files(missing, "*", where),
        lambda: cluster_ls("", where),
    ):
        with pytest.raises(FileNotFoundError):
            ask()
    with pytest.raises(FileNotFoundError, match="missing"):
        cluster_ls(missing, where)
    (tree / "file").touch()
    with pytest.raises(NotADirectoryError):
        cluster_ls(tree / "file", where)
    with pytest.raises(NotADirectoryError):
        cluster_find("*", tree / "file", where)
    with pytest.raises(ValueError, match="null byte"):
        cluster_ls("a\0b", where)
    with pytest.raises(ValueError):
        cluster_ls("\ud800", where)  # which stands for no byte
    assert not cluster_exists("a\0b", where)
    assert not cluster_isfile(tree / "file/below", where)


def test_directories_that_cannot_be_read(
    tree: Path,
    where: Where,
    as_account: Callable[[], AbstractContextManager[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tree / "open").mkdir()
    (tree / "open/file").write_bytes(b"123")
    (tree / "closed").mkdir()
    (tree / "closed/file").write_bytes(b"12345")
    os.chmod(tree / "closed", 0)
    with as_account(), caplog.at_level(logging.WARNING, "prefect.clustrix"):
        with pytest.raises(PermissionError):
            cluster_ls(tree / "closed", where)
        with pytest.raises(PermissionError):
            cluster_find("*", tree / "closed", where)
        with pytest.raises(PermissionError):
            cluster_stat(tree / "closed/file", where)
        assert not cluster_exists(tree / "closed/file", where)
        assert caplog.messages == []
        assert cluster_ls(tree, where) == ["closed", "open"]
        assert cluster_find("*", tree, where) == ["open/file"]
        assert cluster_du(tree, where) == DiskUsage(3, 1)
        assert cluster_glob("*/*", tree, where) == ["open/file"]
    assert len(caplog.messages) == 3
    assert all("1 directory could not be read and is left out" in m for m in caplog.messages)
    assert all(f"{tree}/closed" in m for m in caplog.messages)


def test_files_that_vanish_while_they_are_listed(tree: Path, where: Where) -> None:
    for number in range(40):
        (tree / f"d{number}").mkdir()
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            for number in range(40):
                (tree / f"d{number}/file").touch()
                (tree / f"d{number}/sub").mkdir()
            for number in range(40):
                (tree / f"d{number}/file").unlink()
                (tree / f"d{number}/sub").rmdir()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(15):
            assert len(cluster_ls(tree, where)) == 40
            assert all(name.endswith("/file") for name in cluster_find("*", tree, where))
            assert cluster_du(tree, where).total_bytes == 0
            assert cluster_count_files(tree, "*", where) <= 40
            assert len(cluster_glob("*/*", tree, where)) <= 80
    finally:
        done.set()
        thread.join()


def test_the_far_side_runs_the_python_that_is_meant(ssh_under) -> None:
    for version in ("3.6", "3.13"):
        pid = far_files(ssh_under(version)).agent.request(
            protocol.command(argv=["sh", "-c", "echo $PPID"])
        )
        assert f"python{version}" in os.readlink(f"/proc/{int(pid['stdout'])}/exe")


def test_relative_paths_and_the_home_directory(ssh, ssh_host) -> None:
    """Here the current directory counts; on a host, where a login begins."""
    assert cluster_ls(cluster=None) == sorted(os.listdir("."))
    assert cluster_ls(cluster=LocalCluster()) == sorted(os.listdir("."))
    assert cluster_ls(cluster=ssh) == sorted(os.listdir(ssh_host.home))
    assert cluster_ls("~", ssh) == cluster_ls(".", ssh)
    assert cluster_stat("~", ssh).name == ssh_host.username
    assert cluster_stat(".", ssh).name == ssh_host.username
    assert cluster_stat("/", ssh).name == "/"


@pytest.fixture(scope="module")
def many(ssh_host) -> Path:
    """100,000 files in 100 directories, which go with the account."""
    top = ssh_host.home / "many"
    for number in range(100):
        (top / f"d{number:02d}").mkdir(parents=True, exist_ok=True)
        directory = os.open(top / f"d{number:02d}", os.O_RDONLY)
        for each in range(1000):
            os.close(os.open(f"f{each:03d}", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=directory))
        os.close(directory)
    return top


def test_a_hundred_thousand_entries(many: Path, where: Where) -> None:
    found = cluster_find("*", many, where)
    assert len(found) == 100_000
    assert found[:2] == ["d00/f000", "d00/f001"]
    assert found[-1] == "d99/f999"
    assert cluster_count_files(many, "f99?", where) == 1000
    assert cluster_du(many, where) == DiskUsage(0, 100_000)
    assert len(cluster_glob("d*/f00*", many, where)) == 1000


def test_a_hundred_thousand_in_one_directory(many: Path, where: Where) -> None:
    flat = many.parent / "flat"
    if not flat.exists():
        flat.mkdir()
        for path in many.rglob("f*"):
            os.link(path, flat / f"{path.parent.name}-{path.name}")
    names = cluster_ls(flat, where)
    assert (len(names), names[0], names[-1]) == (100_000, "d00-f000", "d99-f999")
