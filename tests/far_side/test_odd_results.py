"""Whatever lies where a result or a trace should be, its call ends and the others go on."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from clustrix_prefect.far_side.agent.watch import WatchedJobs, Watcher
from clustrix_prefect.far_side.jobs.batch import PARTS, BatchDirectory
from clustrix_prefect.far_side.jobs.worker_log import WorkerLogs
from clustrix_prefect.far_side.wire.frames import FileBody, encode

GOOD = json.dumps({"size": 1, "status": "ok"}).encode() + b"\nx"


@pytest.fixture
def batch(tmp_path: Path) -> BatchDirectory:
    for part in PARTS:
        (tmp_path / part).mkdir()
    return BatchDirectory(str(tmp_path))


def put(path: Path, what: Any) -> None:
    """A file with this content, or what stands in its place."""
    if isinstance(what, bytes):
        path.write_bytes(what)
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    else:
        path.symlink_to(what)


ODD = {
    "pipe": "pipe",
    "directory": "directory",
    "endless device": "/dev/zero",
    "link to a file": "/etc/hostname",
    "broken link": "nowhere",
    "nothing": b"",
    "no header": b"\xff\xfe\n",
    "a list": b"[1]\nx",
    "a text": b'"x"\nx',
    "a number": b"7\nx",
    "half of one": b'{"status": "o',
    "deep": b"[" * 100_000 + b"\nx",
    "no line end": b"{" + b" " * 600_000,
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_result_is_reported_as_such(batch: BatchDirectory, name: str) -> None:
    put(Path(batch.results, "odd"), ODD[name])
    put(Path(batch.results, "good"), GOOD)
    watched = WatchedJobs("run", batch)
    watched.add(["odd", "good"], {})
    headers = {event["call"]: event["header"] for event, _ in watched.look(refresh=True)}
    assert headers["odd"]["status"] == "unreadable"
    assert headers["good"]["status"] == "ok"
    assert not watched.waiting


@pytest.mark.parametrize("size", [10**13, -1, "x", None, [], {}], ids=str)
def test_the_size_that_a_header_names_is_not_believed(batch: BatchDirectory, size: Any) -> None:
    body = os.urandom(300_000)
    Path(batch.results, "big").write_bytes(json.dumps({"size": size}).encode() + b"\n" + body)
    watched = WatchedJobs("run", batch)
    watched.add(["big"], {})
    ((_, found),) = watched.look(refresh=True)
    assert isinstance(found, FileBody)
    assert len(found) == 300_000
    with open(batch.result_file("big"), "ab") as file:
        file.write(b"more")  # what comes later was not announced
    assert b"".join(iter(lambda: found.read(70_000), b"")) == body


@pytest.mark.parametrize(
    "trace",
    ["pipe", "directory", "/dev/zero", b"[]\n", b"{}\n", b"7\n", b'{"started": 1}\n'],
    ids=str,
)
def test_an_odd_trace_holds_up_nobody(batch: BatchDirectory, trace: Any) -> None:
    put(Path(batch.events, "odd"), trace)
    seen = threading.Event()

    def note(event: dict[str, Any], body: Any) -> None:
        if event["event"] == "result" and event["call"] == "odd":
            seen.set()

    said: list[str] = []
    watcher = Watcher(note, lambda: None, lambda: None, said.append)
    watcher.add("run", batch, ["odd", "other"])
    put(Path(batch.results, "odd"), GOOD)
    assert seen.wait(60)


def test_odd_lines_of_a_ledger_are_passed_over(batch: BatchDirectory) -> None:
    good: dict[str, Any] = {"event": "log", "call": "a", "lines": []}
    odd: list[dict[str, Any]]
    odd = [{"event": "log"}, {"call": ["a"], "event": "log"}, {"call": "a"}, {}]
    frames = [encode(message) for message in (*odd, good)]
    Path(batch.ledger(1)).write_bytes(b"".join(frames))
    os.mkfifo(batch.ledger(2))
    Path(batch.ledger(3)).write_bytes(encode([1]))  # type: ignore[arg-type]
    assert WorkerLogs(batch).news() == [(good, b"")]
