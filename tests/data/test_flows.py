"""Files, folders and large values in flows, on every kind of cluster."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task, unmapped

from clustrix_prefect import (
    ClusterTaskRunner,
    File,
    Folder,
    LocalCluster,
    RemoteFile,
    RemoteFolder,
)
from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.errors import CallNotPortable, NotPortable
from clustrix_prefect.sessions.session import sessions

MIB = 1024 * 1024


@task
def describe(path: Path, nested: dict[str, list[Path]]) -> tuple[str, str, bytes, list[str]]:
    return type(path).__name__, path.name, path.read_bytes(), [p.name for p in nested["more"]]


@task
def walk(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        found[name] = (
            os.readlink(str(path))
            if path.is_symlink()
            else path.read_text()
            if path.is_file()
            else None
        )
    return found


@task
def is_runnable(path: Path) -> bool:
    return os.access(str(path), os.X_OK)


@task
def try_to_write(path: Path) -> str:
    try:
        with path.open("a"):
            return "written"
    except OSError as error:
        return type(error).__name__


@task
def make(text: str) -> dict[str, Any]:
    Path("made.txt").write_text(text)
    os.makedirs("tree/sub", exist_ok=True)
    Path("tree/sub/leaf").write_text(text * 2)
    return {"file": File("made.txt"), "folder": Folder("tree")}


@task
def read_both(file: Path, folder: Path) -> tuple[str, str]:
    return file.read_text(), (folder / "sub/leaf").read_text()


@task
def in_place(path: str) -> Any:
    with open(path, "w") as file:
        file.write("in place")
    return File.remote(path)


@task
def read(path: Path) -> str:
    return path.read_text()


@task
def size_and_first(data: bytes, index: int) -> tuple[int, int]:
    return len(data), data[index]


@task
def total(table: dict[int, str], index: int) -> tuple[int, str]:
    table["mine"] = index  # type: ignore[assignment, index]  # others must not see this
    return len(table), table[index]


@task
def large(size: int) -> bytes:
    return bytes(range(256)) * (size // 256)


@task
def same(value: Any) -> Any:
    return value


def sent_bytes(cluster: ClusterBlock) -> int:
    """What went over the connection so far."""
    session = sessions.acquire(cluster)
    try:
        return session.agent.bytes_sent
    finally:
        sessions.release(session)


def test_files_arrive_as_paths_with_their_names(runner: ClusterTaskRunner, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"weights")
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    file = File(tmp_path / "model.pt")

    @flow(task_runner=runner)
    def with_files() -> Sequence[Any]:
        return [
            describe.submit(file, {"more": [file, File(tmp_path / "run.sh")]}).result(),
            is_runnable.submit(File(tmp_path / "run.sh")).result(),
            try_to_write.submit(file).result(),
        ]

    described, runnable, writing = with_files()
    assert described == ("PosixPath", "model.pt", b"weights", ["model.pt", "run.sh"])
    assert runnable
    # root may write to anything
    assert writing in ("PermissionError",) or isinstance(runner.cluster, LocalCluster)


def test_folders_arrive_whole(runner: ClusterTaskRunner, tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "sub").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "sub/a b.csv").write_text("1,2")
    (root / "link").symlink_to("sub/a b.csv")
    (tmp_path / "elsewhere").write_text("there")
    (root / "outside").symlink_to(tmp_path / "elsewhere")

    @flow(task_runner=runner)
    def with_folder() -> Any:
        return walk.submit(Folder(root)).result()

    assert with_folder() == {
        "sub": None,
        "empty": None,
        "sub/a b.csv": "1,2",
        "link": "sub/a b.csv",
        "outside": "there",
    }


def test_what_a_task_returns_stays_until_it_is_asked_for(
    runner: ClusterTaskRunner, tmp_path: Path
) -> None:
    @flow(task_runner=runner)
    def returning() -> Sequence[Any]:
        first = make.submit("first")
        # The same paths again: what was returned before must not change.
        second = make.submit("second", wait_for=[first])
        one, two = first.result(), second.result()
        used = [read_both.submit(**made).result() for made in (one, two)]
        return one, two, used

    one, two, used = returning()
    assert used == [("first", "firstfirst"), ("second", "secondsecond")]
    assert isinstance(one["file"], RemoteFile)
    assert isinstance(one["folder"], RemoteFolder)
    assert one["file"].size == 5
    again = pickle.loads(pickle.dumps(one["file"]))
    assert again.download(tmp_path, progress=False) == tmp_path / "made.txt"
    assert (tmp_path / "made.txt").read_text() == "first"
    folder = two["folder"].download(tmp_path / "got", progress=False)
    assert (folder / "sub/leaf").read_text() == "secondsecond"
    with pytest.raises(FileExistsError):
        two["folder"].download(tmp_path / "got" / "sub" / "leaf", progress=False)


def test_files_that_are_there_already(
    runner: ClusterTaskRunner, tmp_path: Path, cluster: ClusterBlock
) -> None:
    session = sessions.acquire(cluster)
    path = f"{session.work_dir}/there.txt"
    sessions.release(session)

    @flow(task_runner=runner)
    def there() -> Sequence[Any]:
        made = in_place.submit(path)
        return made.result(), read.submit(made).result(), read.submit(File.remote(path)).result()

    made, passed_on, by_path = there()
    assert (passed_on, by_path) == ("in place", "in place")
    assert str(made.path) == path
    target = made.download(tmp_path / "here.txt", progress=False)
    assert target.read_text() == "in place"


def test_what_is_not_there_is_named(runner: ClusterTaskRunner, tmp_path: Path) -> None:
    @flow(task_runner=runner)
    def missing(argument: Any) -> Any:
        return read.submit(argument).result()

    with pytest.raises(NotPortable, match=r"no file .*gone"):
        missing(File(tmp_path / "gone"))
    with pytest.raises(NotPortable, match=r"no folder .*gone"):
        missing(Folder(tmp_path / "gone"))
    with pytest.raises(CallNotPortable, match=r"no file /nowhere/x"):
        missing(File.remote("/nowhere/x"))


def test_a_large_value_is_sent_once_for_many_calls(
    runner: ClusterTaskRunner, cluster: ClusterBlock
) -> None:
    data = os.urandom(6 * MIB)

    @flow(task_runner=runner)
    def shared() -> Sequence[Any]:
        before = sent_bytes(cluster)
        found = size_and_first.map(unmapped(data), range(20)).result()
        once = sent_bytes(cluster) - before
        # Equal by content, in another flow's calls.
        size_and_first.submit(bytes(bytearray(data)), 1).result()
        return found, once, sent_bytes(cluster) - before - once

    found, once, again = shared()
    assert found == [(len(data), data[index]) for index in range(20)]
    assert len(data) < once < len(data) * 1.05
    assert again < 20_000


def test_calls_do_not_see_what_others_do_to_a_shared_value(
    runner: ClusterTaskRunner,
) -> None:
    table = {index: str(index) * 10 for index in range(20_000)}

    @flow(task_runner=runner)
    def shared() -> Any:
        return total.map(unmapped(table), range(6)).result()

    assert shared() == [(len(table) + 1, table[index]) for index in range(6)]


def test_large_results_come_whole(runner: ClusterTaskRunner) -> None:
    size = 40 * MIB

    @flow(task_runner=runner)
    def returning() -> bytes:
        return large.submit(size).result()

    found = returning()
    assert len(found) == size
    assert found == bytes(range(256)) * (size // 256)


def test_what_is_on_another_cluster_is_refused(local: ClusterBlock, tmp_path: Path) -> None:
    other = LocalCluster(remote_work_dir=str(tmp_path / "other"))

    @flow(task_runner=ClusterTaskRunner(local))
    def produce() -> Any:
        return make.submit("x").result()["file"]

    @flow(task_runner=ClusterTaskRunner(other))
    def consume(file: RemoteFile) -> Any:
        return read.submit(file).result()

    made = produce()
    with pytest.raises(NotPortable, match="not on the cluster"):
        consume(made)


def test_arrays(local: ClusterBlock) -> None:
    numpy = pytest.importorskip("numpy")
    arrays = {
        "floats": numpy.arange(100_000.0),
        "fortran": numpy.asfortranarray(numpy.arange(90_000).reshape(300, 300)),
        "gaps": numpy.arange(200_000)[::2],
        "times": numpy.arange(20_000).astype("datetime64[s]"),
        "text": numpy.array(["abc"] * 20_000),
        "bool": numpy.ones(100_000, dtype=bool),
        "swapped": numpy.arange(20_000, dtype=">i4").repeat(2),
        "record": numpy.zeros(20_000, dtype=[("a", "i4"), ("b", "f8")]),
        "object": numpy.array([{}, 1] * 20_000, dtype=object),
    }

    @flow(task_runner=ClusterTaskRunner(local))
    def there_and_back() -> dict[str, Any]:
        twice = numpy.arange(50_000)
        a, b = same.submit([twice, twice]).result()
        assert a is b or (a == b).all()
        for array in arrays.values():
            alone = same.submit(array).result()
            assert alone.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
            assert (alone == array).all()
            assert alone.flags.writeable
        return same.submit(arrays).result()

    back = there_and_back()
    for name, array in arrays.items():
        # numpy's own pickles, of results, bring the bytes into this machine's order.
        assert back[name].dtype == array.dtype.newbyteorder("="), name
        assert back[name].shape == array.shape, name
        assert (back[name] == array).all(), name
        assert back[name].flags.writeable, name
