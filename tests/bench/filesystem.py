"""What one look at a cluster's files takes, and a listing of very many beside `ssh host find`."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clustrix_prefect import (
    ClusterFileSystem,
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
from clustrix_prefect.filesystem.far_files import close_all, far_files
from tests.bench.lab import Lab
from tests.bench.table import Bound, Part, Row, milliseconds, spread

FILES = 100_000
DIRECTORIES = 1000
REPEATED = 200
ROUNDS = 5

_MOST_MILLISECONDS = 2
_MOST_TIMES_FIND = 1.5


def measure(lab: Lab) -> Part:
    """Operations on an open connection, and `find`, over SSH on the loopback interface."""
    cluster, top = lab.ssh_cluster(), _plant(lab.ssh.home / "many")
    part = Part(f"Files of a cluster over SSH, {FILES:,} of them")
    try:
        _one_connection(lab, part, cluster, top)
        _operations(part, cluster, top)
        _find(lab, part, cluster, top)
    finally:
        close_all()
    return part


def _plant(top: Path) -> Path:
    for number in range(DIRECTORIES):
        directory = top / f"d{number // 100:02d}" / f"d{number:03d}"
        directory.mkdir(parents=True)
        descriptor = os.open(directory, os.O_RDONLY)
        for each in range(FILES // DIRECTORIES):
            os.close(os.open(f"file-{each:04d}", os.O_CREAT, 0o644, dir_fd=descriptor))
        os.close(descriptor)
    return top


def _one_connection(lab: Lab, part: Part, cluster: ClusterBlock, top: Path) -> None:
    small = top / "d00/d000"
    before = lab.ssh_logins()
    fs = ClusterFileSystem(cluster)
    asked: list[Callable[[], Any]] = [
        lambda: cluster_ls(small, cluster),
        lambda: cluster_find("*", small, cluster),
        lambda: cluster_glob("*", small, cluster),
        lambda: cluster_stat(small, cluster),
        lambda: cluster_exists(small, cluster),
        lambda: cluster_isdir(small, cluster),
        lambda: cluster_isfile(small, cluster),
        lambda: cluster_du(small, cluster),
        lambda: cluster_count_files(small, cluster=cluster),
        lambda: fs.info(str(small)),
        lambda: fs.ls(str(small)),
        lambda: fs.cat_file(f"{small}/file-0000"),
    ]
    for ask in asked:
        ask()
    trips = far_files(cluster).agent.round_trips - 1  # one measured the clock when it began
    logins = lab.ssh_logins() - before
    part.rows += [
        Row(
            f"{len(asked)} operations: SSH connections", str(logins), "", "", Bound("==", 1), logins
        ),
        Row(
            f"{len(asked)} operations: round trips",
            str(trips),
            bound=Bound("==", len(asked)),
            figure=trips,
        ),
    ]


def _operations(part: Part, cluster: ClusterBlock, top: Path) -> None:
    fs = ClusterFileSystem(cluster)
    file = f"{top}/d00/d000/file-0000"
    for name, ask in {
        "info of a file": lambda: fs.info(file),
        "cluster_exists": lambda: cluster_exists(file, cluster),
        "ls of 100 files": lambda: fs.ls(f"{top}/d00/d000"),
        "cat_file": lambda: fs.cat_file(file),
        "pipe_file": lambda: fs.pipe_file(f"{top}/../written", b"x" * 1000),
    }.items():
        taken = [_seconds(ask) for _ in range(REPEATED)]
        middle = 1000 * statistics.median(taken)
        bound = Bound("<", _MOST_MILLISECONDS, " ms median")
        part.rows.append(Row(name, milliseconds(taken), "", "", bound, middle))


def _seconds(ask: Callable[[], Any]) -> float:
    began = time.perf_counter()
    ask()
    return time.perf_counter() - began


def _find(lab: Lab, part: Part, cluster: ClusterBlock, top: Path) -> None:
    fs, command = ClusterFileSystem(cluster), lab.ssh.ssh_command(f"find {top} -type f")
    ours, theirs, first = [], [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        listed = subprocess.run(command, capture_output=True, check=True).stdout
        theirs.append(time.perf_counter() - began)
        began = time.perf_counter()
        found = fs.find(str(top))
        ours.append(time.perf_counter() - began)
        if found != sorted(listed.decode().splitlines()):
            raise AssertionError("the two do not find the same")
        began = time.perf_counter()
        next(fs.iter_find(str(top)))
        first.append(time.perf_counter() - began)
    shares = [one / other for one, other in zip(ours, theirs, strict=True)]
    share = statistics.median(shares)
    part.rows += [
        Row(
            "find",
            milliseconds(ours),
            f"ssh host find: {milliseconds(theirs)}",
            spread(shares, digits=2),
            Bound("<=", _MOST_TIMES_FIND),
            share,
        ),
        Row("find: the first path", milliseconds(first)),
    ]
    part.remarks.append(
        f"Medians (lowest to highest) of {ROUNDS} rounds, in turn; `ssh` connects each time, "
        "ours was connected. Both lists are complete and compared; ours is sorted."
    )
