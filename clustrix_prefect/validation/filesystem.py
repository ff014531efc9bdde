"""Whether the files of a cluster are as expected, and whether it answers about them rightly."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.errors import ClustrixError
from clustrix_prefect.filesystem.cluster_filesystem import ClusterFileSystem
from clustrix_prefect.filesystem.functions import (
    cluster_count_files,
    cluster_du,
    cluster_exists,
    cluster_find,
    cluster_glob,
    cluster_isdir,
    cluster_isfile,
    cluster_ls,
    cluster_stat,
    count_and_gap,
    usage_and_gap,
)
from clustrix_prefect.filesystem.quotas import quota_at
from clustrix_prefect.validation.ages import seconds_of
from clustrix_prefect.validation.check import Check
from clustrix_prefect.validation.expectations import Expectation
from clustrix_prefect.validation.report import amount_words

_ROUND_TRIPS = 5
_TREE = {
    "one.csv": b"1,2\n",
    "two.csv": b"3,4\n",
    "notes.txt": b"notes\n",
    "program.py": b"print()\n",
    "subdir/nested.csv": b"5,6\n",
}


def check_filesystem(
    name: str, cluster: ClusterBlock, expectations: Sequence[Expectation]
) -> Iterator[Check]:
    """Hold a cluster's files against what is expected of them.

    Args:
        name: The cluster's name, for people.
        cluster: The cluster.
        expectations: What is expected there, and elsewhere; `placed` has sorted them out.
    """
    files = ClusterFileSystem(cluster)
    try:
        files.exists("~")
    except (ClustrixError, OSError) as error:
        yield Check.failed("connection", error, name)
        return
    yield _timed(name, "latency", lambda: _latency(files))
    yield _timed(name, "write, read, delete in ~", lambda: _write_read_delete(files, "~"))
    yield from _known_tree(name, cluster, files)
    for one in expectations:
        if one.cluster in (None, name):
            yield from _expected(name, cluster, files, one)


class _Wrong(Exception):
    """What was found is not what was expected."""


def _timed(name: str, what: str, look: Callable[[], str]) -> Check:
    began = time.monotonic()
    try:
        value = look()
    except _Wrong as wrong:
        return Check(what, problem=str(wrong), seconds=time.monotonic() - began, cluster=name)
    except (ClustrixError, OSError) as error:
        return Check.failed(what, error, name)
    return Check(what, value, seconds=time.monotonic() - began, cluster=name)


def _latency(files: ClusterFileSystem) -> str:
    took = []
    for _ in range(_ROUND_TRIPS):
        began = time.perf_counter()
        files.exists("~")
        took.append(time.perf_counter() - began)
    return f"{sorted(took)[_ROUND_TRIPS // 2] * 1000:.1f} ms for one look, the median of five"


def _write_read_delete(files: ClusterFileSystem, path: str) -> str:
    probe = f"{path.rstrip('/')}/.clustrix-prefect-probe-{uuid.uuid4().hex}"
    content = os.urandom(4096)
    try:
        files.pipe_file(probe, content)
        if files.cat_file(probe) != content:
            raise _Wrong("What was read is not what had been written.")
    finally:
        with suppress(FileNotFoundError):
            files.rm_file(probe)
    if files.exists(probe):
        raise _Wrong("The file is still there after it was deleted.")
    return "4 KiB written, read back and deleted"


def _known_tree(name: str, cluster: ClusterBlock, files: ClusterFileSystem) -> Iterator[Check]:
    """Yield what the questions about files answer on files that are known."""
    tree = f"~/.clustrix-prefect-tree-{uuid.uuid4().hex}"
    try:
        for path, content in _TREE.items():
            files.makedirs(os.path.dirname(f"{tree}/{path}"), exist_ok=True)
            files.pipe_file(f"{tree}/{path}", content)
        answers: list[tuple[str, Callable[[], Any], Any]] = [
            (
                "ls",
                lambda: cluster_ls(tree, cluster),
                ["notes.txt", "one.csv", "program.py", "subdir", "two.csv"],
            ),
            (
                "find",
                lambda: cluster_find("*.csv", tree, cluster),
                ["one.csv", "subdir/nested.csv", "two.csv"],
            ),
            ("glob", lambda: cluster_glob("*.csv", tree, cluster), ["one.csv", "two.csv"]),
            ("du", lambda: cluster_du(tree, cluster).file_count, 5),
            ("du, bytes", lambda: cluster_du(tree, cluster).total_bytes, 26),
            ("count files", lambda: cluster_count_files(tree, "*", cluster), 5),
            ("count *.csv", lambda: cluster_count_files(tree, "*.csv", cluster), 3),
            ("stat", lambda: cluster_stat(f"{tree}/one.csv", cluster).size, 4),
            ("exists", lambda: cluster_exists(f"{tree}/gone", cluster), False),
            ("isdir", lambda: cluster_isdir(f"{tree}/subdir", cluster), True),
            ("isfile", lambda: cluster_isfile(f"{tree}/subdir", cluster), False),
        ]
        for what, ask, expected in answers:
            yield _timed(name, f"known files: {what}", partial(_same, ask, expected))
    except (ClustrixError, OSError) as error:
        yield Check.failed("known files", error, name)
    finally:
        with suppress(ClustrixError, OSError):
            files.rm(tree, recursive=True)


def _same(ask: Callable[[], Any], expected: Any) -> str:
    answer = ask()
    if type(answer) is not type(expected) or answer != expected:
        raise _Wrong(f"It gave {answer!r}, not {expected!r}.")
    return f"{answer}"


def _expected(
    name: str, cluster: ClusterBlock, files: ClusterFileSystem, wanted: Expectation
) -> Iterator[Check]:
    path = wanted.path

    def look() -> str:
        began = time.perf_counter()
        there = files.lexists(path)
        took = (time.perf_counter() - began) * 1000
        if there != wanted.exists:
            raise _Wrong("There is something." if there else "There is nothing.")
        if wanted.max_latency_ms is not None and took > wanted.max_latency_ms:
            raise _Wrong(f"One look took {took:.1f} ms, more than {wanted.max_latency_ms:g} ms.")
        return f"{'there' if there else 'not there'}, one look took {took:.1f} ms"

    first = _timed(name, path, look)
    yield first
    if not first.is_ok or not wanted.exists:
        return

    def kind() -> str:
        found = "link" if files.islink(path) else files.info(path)["type"]
        if wanted.kind != found and not (
            wanted.kind != "link" and files.info(path)["type"] == wanted.kind
        ):
            raise _Wrong(f"It is a {found}, not a {wanted.kind}.")
        return found

    def permissions() -> str:
        found = cluster_stat(path, cluster).permissions
        octal = int(found, 8) if isinstance(found, str) else int(found)
        if octal & 0o7777 != int(wanted.permissions or "0", 8):
            raise _Wrong(f"They are {octal & 0o7777:04o}, not {wanted.permissions}.")
        return f"{octal & 0o7777:04o}"

    def size() -> str:
        usage, gap = usage_and_gap(path, cluster)
        found = usage.total_bytes
        _within(found, wanted.min_size, wanted.max_size, amount_words, gap)
        return amount_words(found)

    def count() -> str:
        found, gap = count_and_gap(path, wanted.pattern, cluster)
        _within(found, wanted.min_files, wanted.max_files, "{:,}".format, gap)
        return f"{found:,} files fit {wanted.pattern}"

    def newest() -> str:
        found = files.find(path, detail=True)
        times = [info["mtime"] for info in found.values() if info["type"] == "file"]
        if not times:
            raise _Wrong("There are no files.")
        old = time.time() - max(times)
        if old > seconds_of(wanted.newest_within or ""):
            raise _Wrong(f"It is {old / 3600:.1f} h old, more than {wanted.newest_within}.")
        return f"{max(old, 0) / 3600:.1f} h old"

    def free() -> str:
        found = files.space(path)["available"]
        _within(found, wanted.min_free, None, amount_words)
        return f"{amount_words(found)} available"

    def quota() -> str:
        left = quota_at(path, cluster).left
        if left is None:
            return "no limit is set"
        _within(left, wanted.min_quota, None, amount_words)
        return f"{amount_words(left)} left"

    looks: list[tuple[str, bool, Callable[[], str]]] = [
        ("kind", wanted.kind is not None, kind),
        ("permissions", wanted.permissions is not None, permissions),
        ("size", wanted.min_size is not None or wanted.max_size is not None, size),
        ("files", wanted.min_files is not None or wanted.max_files is not None, count),
        ("newest file", wanted.newest_within is not None, newest),
        ("free space", wanted.min_free is not None, free),
        ("quota", wanted.min_quota is not None, quota),
        ("write, read, delete", wanted.writable, lambda: _write_read_delete(files, path)),
    ]
    for what, asked, answer in looks:
        if asked:
            yield _timed(name, f"{path}, {what}", answer)


def _within(
    found: int, least: int | None, most: int | None, words: Callable[[int], str], gap: str = ""
) -> None:
    """Raise `_Wrong` unless it is within its bounds, or is known to be for all that is missing."""
    if least is not None and found < least:
        raise _Wrong(f"It is {words(found)}, less than {words(least)}{_but(gap)}.")
    if most is not None and found > most:
        raise _Wrong(f"It is {words(found)}, more than {words(most)}{_but(gap)}.")
    if most is not None and gap:
        raise _Wrong(f"It is not known whether it is more than {words(most)}{_but(gap)}.")


def _but(gap: str) -> str:
    return f"; {gap}" if gap else ""
