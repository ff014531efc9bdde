"""What tasks return by name from pods that share nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prefect import flow, task

from clustrix_prefect import (
    ClusterTaskRunner,
    File,
    Folder,
    KubernetesCluster,
    RemoteFile,
    resources,
)
from clustrix_prefect.errors import ConfigurationError
from tests.live.daemon import wait_until

if TYPE_CHECKING:
    from tests.live.kubernetes.cluster import Kubernetes

pytestmark = pytest.mark.usefixtures("quick_prefect")

# More than a chunk, and more than travels within a message.
LONG = 9 * 1024 * 1024


@task
def make(name: str, seed: bytes) -> dict[str, Any]:
    tree = Path(name)
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "long").write_bytes(seed * (LONG // len(seed)))
    (tree / "short").write_bytes(seed)
    (tree / "run.sh").write_text("#!/bin/sh\necho runs\n")
    (tree / "run.sh").chmod(0o755)
    os.symlink("short", str(tree / "link"))
    made = {"file": File(tree / "sub" / "long"), "folder": Folder(tree)}
    return {**made, "script": File(tree / "run.sh"), "host": socket.gethostname()}


@task
def look(file: Path, folder: Path, script: Path) -> dict[str, Any]:
    import subprocess

    long, short = (folder / "sub" / "long").read_bytes(), (folder / "link").read_bytes()
    return {
        "same": file.read_bytes() == long,
        "short": short,
        "said": subprocess.check_output([str(script)]),
        "host": socket.gethostname(),
    }


@task
def write_in_place(path: str) -> Any:
    with open(path, "w") as file:
        file.write("in place")
    return File.remote(path)


@task
def read(path: Path) -> str:
    return path.read_text()


@pytest.fixture
def apart(on_kubernetes: KubernetesCluster) -> KubernetesCluster:
    """Each call in a pod of its own."""
    return on_kubernetes.model_copy(update={"calls_per_pod": 1})


def test_files_and_folders_are_downloaded_while_the_flow_runs(
    apart: KubernetesCluster, kubernetes: Kubernetes, tmp_path: Path
) -> None:
    seed = os.urandom(1024)

    @flow(task_runner=ClusterTaskRunner(apart))
    def brought() -> RemoteFile:
        made = make.submit("tree", seed).result()
        # A pod that has had its calls goes, but not this one.
        with resources(memory="100MB"):
            assert read.submit(File(tmp_path / "other")).result() == "other"
        made["file"].download(tmp_path / "long")
        made["folder"].download(tmp_path / "folder")
        return made["script"]

    (tmp_path / "other").write_text("other")
    late = brought()
    assert (tmp_path / "long").read_bytes() == seed * (LONG // len(seed))
    assert (tmp_path / "folder" / "sub" / "long").read_bytes() == seed * (LONG // len(seed))
    assert (tmp_path / "folder" / "link").read_bytes() == seed
    assert os.access(tmp_path / "folder" / "run.sh", os.X_OK)
    wait_until(lambda: not kubernetes.objects(apart.namespace), 30)
    with pytest.raises(ConfigurationError, match=r"pod .* is gone.*work_volume_claim"):
        late.download(tmp_path / "late")
    assert not kubernetes.objects(apart.namespace)


def test_they_are_brought_to_tasks_in_other_pods(apart: KubernetesCluster) -> None:
    seed = os.urandom(1024)

    @flow(task_runner=ClusterTaskRunner(apart))
    def passed_on() -> Sequence[Any]:
        made = make.submit("tree", seed).result()
        with resources(memory="100MB"):  # which the pod that made them does not have
            seen = look.submit(made["file"], made["folder"], made["script"]).result()
        return made["host"], seen

    host, seen = passed_on()
    assert seen.pop("host") != host
    assert seen == {"same": True, "short": seed, "said": b"runs\n"}


def test_pods_that_hold_files_go_on_and_make_room(apart: KubernetesCluster) -> None:
    narrow = apart.model_copy(update={"max_pods": 1})

    @flow(task_runner=ClusterTaskRunner(narrow))
    def one_after_another() -> Sequence[Any]:
        made = [make.submit(f"tree-{n}", b"x" * 1024) for n in range(3)]
        hosts = {one.result()["host"] for one in made}
        sizes = [one.result()["file"].size for one in made]
        with resources(memory="100MB"):
            other = make.submit("tree-other", b"y" * 1024).result()["host"]
        return hosts, sizes, other

    hosts, sizes, other = one_after_another()
    assert len(hosts) == 1
    assert sizes == [LONG] * 3
    assert other not in hosts


def test_a_path_of_a_volume_that_pods_share(
    apart: KubernetesCluster, far_dir: Path, tmp_path: Path
) -> None:
    @flow(task_runner=ClusterTaskRunner(apart))
    def in_place() -> Any:
        there = write_in_place.submit(str(far_dir / "there")).result()
        there.download(tmp_path / "here")
        with resources(memory="100MB"):
            return read.submit(there).result()

    assert in_place() == "in place"
    assert (tmp_path / "here").read_text() == "in place"
