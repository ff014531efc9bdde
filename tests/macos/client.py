"""A flow's process, which sees no Linux: it imports everything, and uses a cluster over SSH."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from pathlib import Path

from prefect import flow, task

import clustrix_prefect
from clustrix_prefect import (
    ClusterFileSystem,
    ClusterTaskRunner,
    File,
    LocalCluster,
    SSHCluster,
    SSHCredentials,
    cluster_ls,
)
from clustrix_prefect.errors import ConfigurationError


@task(log_prints=True)
def measure(path: Path, offset: int) -> tuple[int, str]:
    import sys

    print("on", sys.platform)
    return len(path.read_text()) + offset, sys.platform


@task
def anything() -> None: ...


def import_all() -> int:
    """Import every module of the client; how many there are."""
    names = [
        found.name
        for found in pkgutil.walk_packages(clustrix_prefect.__path__, "clustrix_prefect.")
        if not found.name.startswith("clustrix_prefect.far_side.")
    ]
    for name in names:
        importlib.import_module(name)
    return len(names)


def over_ssh(cluster: SSHCluster, directory: Path) -> list[tuple[int, str]]:
    (directory / "text").write_text("abc")

    @flow(task_runner=ClusterTaskRunner(cluster))
    def measuring() -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = measure.map(File(directory / "text"), range(3)).result()
        return found

    return measuring()


def on_this_machine() -> str:
    @flow(task_runner=ClusterTaskRunner(LocalCluster()))
    def local() -> str:
        try:
            anything.submit()
        except ConfigurationError as error:
            return str(error)
        return ""

    return local()


def main(settings: dict[str, str], directory: Path) -> None:
    assert sys.platform == "darwin"
    credentials = SSHCredentials(username=settings["username"], key_file=settings["key_file"])
    fields = {key: settings[key] for key in ("host", "port", "known_hosts", "python")}
    cluster = SSHCluster(credentials=credentials, remote_work_dir=settings["work_dir"], **fields)
    print(
        json.dumps(
            {
                "modules": import_all(),
                "values": over_ssh(cluster, directory),
                "listed": ClusterFileSystem(cluster).exists(settings["work_dir"]),
                "here": "text" in cluster_ls(str(directory)),
                "local": on_this_machine(),
            }
        )
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))
