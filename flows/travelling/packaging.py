"""The four cases of packaging: the host, functions of one's own, files, and all of it together."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from typing import Any

from clustrix_prefect import (
    cluster_count_files,
    cluster_exists,
    cluster_find,
    cluster_ls,
    cluster_stat,
)
from flows.travelling.proof import case, proof


@case(name="basic", log_prints=True)
def basic(run: str) -> Any:
    where = proof(run)
    print("host {host}, process {pid}, Python {python}, job {job}".format(**where))
    return where, {
        "host": socket.gethostname(),
        "python": sys.version.split()[0],
        "cwd": os.getcwd(),
        "SLURM_JOB_ID": os.environ.get("SLURM_JOB_ID", ""),
        "SLURM_PROCID": os.environ.get("SLURM_PROCID", ""),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
    }


def is_basic(value: Any) -> bool:
    """Whether it is what the basic case tells."""
    return (
        isinstance(value, dict)
        and set(value)
        == {"host", "python", "cwd", "SLURM_JOB_ID", "SLURM_PROCID", "OMP_NUM_THREADS"}
        and str(value["cwd"]).startswith("/")
        and value["python"][0] == "3"
        and bool(value["SLURM_JOB_ID"]) == bool(value["SLURM_PROCID"])
    )


def doubled(x: int) -> int:
    def twice(y: int) -> int:
        return y * 2

    return twice(x) + 10


def in_capitals(*words: str) -> str:
    return "_".join(words).upper()


@case(name="local dependencies")
def local_dependencies(run: str, number: int, words: Any) -> Any:
    return proof(run), {
        "number_result": doubled(number),
        "string_result": in_capitals(*words),
    }


def make_tree(folder: str) -> None:
    """README.md, three programs, two tables, and a table below."""
    below = os.path.join(folder, "subdir")
    os.mkdir(below)
    names = ("README.md", "a.py", "b.py", "c.py", "one.csv", "two.csv")
    for path in [*(os.path.join(folder, name) for name in names), os.path.join(below, "x.csv")]:
        with open(path, "w") as file:
            file.write("1,2\n")


@case(name="filesystem")
def filesystem(run: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        make_tree(folder)
        names = cluster_ls(folder)
        value = {
            "names": names,
            "programs": cluster_count_files(folder, "*.py"),
            "has_readme": cluster_exists(os.path.join(folder, "README.md")),
            "samples": [
                (name, cluster_stat(os.path.join(folder, name)).size) for name in names[:3]
            ],
        }
    return proof(run), value


@case(name="complex")
def a_complex_one(run: str) -> Any:
    def process_data(data: Any) -> float:
        def weighted(x: float) -> float:
            return x * 1.5

        return sum(map(weighted, data))

    with tempfile.TemporaryDirectory() as folder:
        make_tree(folder)
        found = cluster_find("*.csv", folder)
        stats = [cluster_stat(os.path.join(folder, path)) for path in found[:3]]
    return proof(run), {
        "found": found,
        "stats": [(stat.name, stat.size, stat.is_file) for stat in stats],
        "mean_size": sum(stat.size for stat in stats) / len(stats),
        "processed": process_data([1, 2, 3, 4, 5]),
    }
