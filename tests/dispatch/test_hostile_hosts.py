"""A far side that says what no worker of ours says: its calls end, and the client stays well.

The far side is the program itself with a line changed, started as always.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, File, LocalCluster
from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.connections import bootstrap
from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.connections.local import LocalConnection
from clustrix_prefect.errors import (
    ConfigurationError,
    ConnectionLost,
    OutOfDisk,
    ResultNotPortable,
    TamperedResult,
)
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.far_side.wire.chunks import CHUNK_BYTES
from clustrix_prefect.far_side.wire.protocol import Request
from tests.live import clusters

pytestmark = pytest.mark.usefixtures("quick_prefect")


@task
def add(a: int, b: int = 1) -> int:
    return a + b


@task
def give(size: int) -> bytes:
    return os.urandom(size)


def altered(module: str, old: str, new: str) -> bytes:
    """The far side's program with a piece of it changed."""
    program = json.loads(zlib.decompress(bootstrap.packed_program()))
    (name,) = (name for name in program["modules"] if name.endswith(f".{module}"))
    assert old in program["modules"][name]
    program["modules"][name] = program["modules"][name].replace(old, new)
    return zlib.compress(json.dumps(program, sort_keys=True).encode())


def outcome_of(cluster: ClusterBlock, call: Any, *arguments: Any, requeues: int = 0) -> Any:
    """What a call came to: its value, or the exception."""

    @flow(task_runner=ClusterTaskRunner(cluster, requeues=requeues))
    def alone() -> Sequence[Any]:
        future = call.submit(*arguments)
        future.wait(120)
        assert future.state.is_final(), "nobody heard of its end"
        return [future.state.result(raise_on_failure=False)]

    (found,) = alone()
    return found


_HEADER = 'event = {"event": "result", "call": id, "header": header}'

TAKEN = {
    "no time of its end": ("outcome", '"ended": time.time()', '"ended": "x"'),
    "a time far away": ("outcome", '"started": trace["started"]', '"started": 1e30'),
    "a size": ("outcome", '"size": len(outcome.body)', '"size": 10**13'),
    "no process": ("outcome", '"pid": trace["pid"]', '"pid": {"a": []}'),
    "a node": ("outcome", '"host": HOST', '"host": ["x"]'),
}
NOT_TAKEN = {
    "a header in a list": ("warm", _HEADER, _HEADER.replace("header}", "[header]}")),
    "no header": ("warm", _HEADER, _HEADER.replace("header}", "None}")),
    "another signature": ("outcome", '"mac": sign', '"mac": "0" + sign'),
    "another status": ("outcome", '"status": outcome.status', '"status": "raised"'),
    "another body": ("warm", "frame = encode(event, body)", 'frame = encode(event, body + b".")'),
    "a start that is none": ("batch", '"time": trace["started"]', '"time": "x"'),
    "lines that are none": (
        "warm",
        "        header, body = calls.run(",
        '        self._send(encode({"event": "log", "call": id, "lines": 7}))\n'
        "        header, body = calls.run(",
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_value_that_is_signed_is_taken_whatever_is_said_beside_it(
    name: str, local: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = altered(*TAKEN[name])
    monkeypatch.setattr(bootstrap, "packed_program", lambda: program)
    assert outcome_of(local, add, 1) == 2


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_what_cannot_be_taken_in_ends_its_call(
    name: str, local: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = altered(*NOT_TAKEN[name])
    monkeypatch.setattr(bootstrap, "packed_program", lambda: program)
    assert type(outcome_of(local, add, 1)) is TamperedResult


# --- more than was asked for ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "old", "new", "request_"),
    [
        (
            "store_operations",
            "return {}, read_fully(",
            'return {}, b"x" * 10**8 or read_fully(',
            protocol.read(path="/etc/hostname", offset=0, size=CHUNK_BYTES),
        ),
        (
            "file_operations",
            'return facts, b"".join(pieces)',
            'return facts, b"x" * 10**8',
            protocol.fs_read(path="/etc/hostname"),
        ),
        (
            "agent",
            'return {"time": time.time()}',
            'self._link.send({"event": "result", "call": "x"}, bytes(10**9)) or 1/0',
            protocol.ping(),
        ),
        (
            "agent",
            'return {"time": time.time()}',
            'self._link.send({"event": "more"}, bytes(10**6)) or 1/0',
            protocol.ping(),
        ),
    ],
    ids=["a piece", "a file", "a result", "an event"],
)
def test_more_than_was_asked_for_ends_the_connection(
    module: str,
    old: str,
    new: str,
    request_: Request[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = altered(module, old, new)
    monkeypatch.setattr(bootstrap, "packed_program", lambda: program)
    client = AgentClient(LocalConnection(), on_event=print, on_lost=lambda reason: None)

    def ask() -> None:
        client.start()  # which pings
        client.request(protocol.configure(work_dir=str(tmp_path / "work")))
        client.begin(request_).wait(60)

    with pytest.raises(ConnectionLost, match="nobody asked for"):
        ask()
    client.close()


# --- disks ------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of six megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_disk_that_fills_is_named(small_disk: Path) -> None:
    cluster = clusters.local_cluster(small_disk / "work")
    error = outcome_of(cluster, give, 7_000_000)
    assert type(error) is OutOfDisk
    assert "No space left on device" in str(error)
    assert "remote_work_dir" in error.remedy


def test_a_call_that_found_no_room_is_sent_again(small_disk: Path) -> None:
    cluster = clusters.local_cluster(small_disk / "work", max_parallel_calls=1)
    filling = small_disk / "filling"

    @task
    def give_room(path: str) -> bytes:
        """Returns too much for the disk, and makes room for the next attempt."""
        marker = Path(path).with_name("was-here")
        if marker.exists():
            Path(path).unlink()
        marker.touch()
        return bytes(3_000_000)

    filling.write_bytes(bytes(3_500_000))
    assert outcome_of(cluster, give_room, str(filling), requeues=2) == bytes(3_000_000)


def test_a_store_that_was_deleted_is_filled_again(local: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x" * 1000)

    @task
    def size(path: Path) -> int:
        return len(path.read_bytes())

    @flow(task_runner=ClusterTaskRunner(local, requeues=1))
    def twice() -> list[int]:
        first = size.submit(File(tmp_path / "data")).result()
        assert local.remote_work_dir is not None
        subprocess.run(["chmod", "-R", "u+w", local.remote_work_dir], check=True)
        shutil.rmtree(Path(local.remote_work_dir) / "store")
        second = size.submit(File(tmp_path / "data")).result()
        shutil.rmtree(local.remote_work_dir)
        third = add.submit(3).result()
        return [first, second, third]

    assert twice() == [1000, 1000, 4]


# --- results that cannot run code -------------------------------------------------------------


@task
def fail(text: str) -> None:
    raise LookupError(text, 7)


@task
def give_back(value: Any) -> Any:
    return {"given": value, "beside": (1, b"x", {2.5})}


@task
def give_a_class() -> Any:
    return {"a": [Path("/tmp")]}


def test_results_as_json_are_values_or_refused_by_name(local: LocalCluster) -> None:
    @flow(task_runner=ClusterTaskRunner(local, results="json"))
    def several() -> list[Any]:
        futures = [give_back.submit([1]), give_a_class.submit(), fail.submit("no")]
        return [[f.wait(120), f.state.result(raise_on_failure=False)][1] for f in futures]

    value, refused, raised = several()
    assert value == {"given": [1], "beside": (1, b"x", {2.5})}
    assert type(refused) is ResultNotPortable
    assert "it['a'][0] is of type pathlib" in str(refused)
    assert type(raised) is LookupError
    assert raised.args == ("no", 7)


def test_a_pickle_is_not_opened_where_json_was_asked_for(
    local: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = f"cbuiltins\nopen\n(V{tmp_path}/was-here\nVw\ntR."
    body = 'light.to_json(to_plain(value)).encode("ascii")'
    program = altered("outcome", body, repr(trap.encode()))
    monkeypatch.setattr(bootstrap, "packed_program", lambda: program)

    @flow(task_runner=ClusterTaskRunner(local, results="json"))
    def alone() -> list[Any]:
        future = add.submit(1)
        future.wait(120)
        return [future.state.result(raise_on_failure=False)]

    assert type(alone()[0]) is ResultNotPortable
    assert not (tmp_path / "was-here").exists()
    pickle.loads(trap.encode()).close()
    assert (tmp_path / "was-here").exists()  # so it would, had it been opened


def test_a_way_back_that_there_is_not(local: LocalCluster) -> None:
    with pytest.raises(ConfigurationError, match="results='yaml'"):
        ClusterTaskRunner(local, results="yaml")  # type: ignore[arg-type]
